"""Variants of a recipe: changed settings, without outputs and stages that a training does not need."""

from pathlib import Path

import pytest

from whisperstill.console import NullConsole
from whisperstill.pipeline.recipe import read_recipe
from whisperstill.pipeline.recipe_overrides import VariantTrainer
from whisperstill.stages import load_verb

RECIPE = """
name = "trial"
[label]
teacher = "tiny.en"
manifest = ["train.jsonl"]
[filter]
output = "elsewhere"
tune = "recipe.toml"
[init]
[train]
augment = {prob = 0.5, noise_prob = 0.25}
[transcribe]
audio = ["one.wav"]
"""


@pytest.fixture
def trainer(tmp_path: Path) -> VariantTrainer:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return VariantTrainer(read_recipe(path, load_verb), 7, tmp_path / "sweep", NullConsole())


def test_an_override_changes_one_setting_and_keeps_its_siblings(trainer: VariantTrainer) -> None:
    content = trainer._override({"train.augment.prob": 1.0}, 3, "student")
    assert list(content) == ["name", "output", "label", "filter", "init", "train"]
    assert list(content["filter"]) == ["output"]
    train = content["train"]
    assert (train["augment"], train["seed"], train["max_steps"]) == ({"prob": 1.0, "noise_prob": 0.25}, 3, 7)


def test_variants_share_the_outputs_that_a_setting_does_not_change(trainer: VariantTrainer) -> None:
    own, other = (trainer._override(overrides, 0, "student") for overrides in ({}, {"init.decoder_layers": 1}))
    assert own["filter"]["output"] == other["filter"]["output"]
    assert own["init"]["output"] != other["init"]["output"]
    assert own["train"]["output"] != other["train"]["output"]
    assert own["train"]["output"].name.startswith("student-")
