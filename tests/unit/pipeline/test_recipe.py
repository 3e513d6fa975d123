"""Recipes are strict, and the output of a stage is the input of the next."""

from pathlib import Path

import pytest

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.pipeline.recipe import STAGE_ORDER, Recipe, read_recipe
from whisperstill.stages import load_verb

FULL_RECIPE = """
name = "trial"
output = "runs/trial"
[label]
teacher = "tiny.en"
manifest = ["train.jsonl"]
[filter]
max_wer = 10
[init]
decoder_layers = 2
[train]
[evaluate]
manifest = ["test.jsonl"]
[transcribe]
audio = ["one.wav"]
"""


def parse(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, load_verb)


def test_stages_are_chained(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    recipe = parse(tmp_path, FULL_RECIPE)
    assert (recipe.name, recipe.output, recipe.path.parent) == ("trial", Path("runs/trial"), tmp_path)
    assert tuple(stage.verb for stage in recipe.stages) == STAGE_ORDER
    label, filter_, init, train, evaluate, transcribe = (stage.settings for stage in recipe.stages)
    root = Path("runs/trial")
    assert [str(source) for source in label.manifest] == [str(tmp_path / "train.jsonl")]
    assert label.output == root / "labels"
    assert (filter_.labels, filter_.output, filter_.max_wer) == (
        root / "labels",
        root / "filtered",
        10.0,
    )
    assert (init.teacher, init.output) == ("tiny.en", root / "student-init")
    assert (Path(train.student), train.labels, train.output) == (
        root / "student-init",
        root / "filtered",
        root / "student",
    )
    assert [str(model) for model in evaluate.model] == ["tiny.en", str(root / "student")]
    assert evaluate.output == root / "results"
    assert Path(transcribe.model) == root / "student"
    assert transcribe.output_dir == root / "transcripts"


def test_recipe_values_override_the_defaults_of_the_chain(tmp_path: Path) -> None:
    recipe = parse(
        tmp_path,
        '[label]\nteacher = "base"\nmanifest = ["a"]\noutput = "/data/labels"\n[filter]\n[init]\nteacher = "tiny"\n',
    )
    label, filter_, init = (stage.settings for stage in recipe.stages)
    assert label.output == Path("/data/labels") == filter_.labels
    assert init.teacher == "tiny"
    assert recipe.name == "recipe"
    assert recipe.output == Path("runs/recipe")


def test_relative_output_is_relative_to_the_recipe_in_every_stage(tmp_path: Path) -> None:
    """Whether or not the output exists yet."""
    text = (
        '[label]\nteacher = "base"\nmanifest = ["a"]\n[init]\n[train]\noutput = "mine"\n[evaluate]\nmanifest = ["a"]\n'
    )
    text += '[transcribe]\naudio = ["a.wav"]\n'
    for _ in range(2):
        *_, train, evaluate, transcribe = (stage.settings for stage in parse(tmp_path, text).stages)
        assert train.output == tmp_path / "mine" == Path(transcribe.model)
        assert [str(model) for model in evaluate.model] == ["base", str(tmp_path / "mine")]
        train.output.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no stage"),
        ("name = 3\n[init]\n", "name: expected a string, got 3"),
        ("[lable]\n", "has an unknown key 'lable' (its keys: name, output, label, filter"),
        ("label = 3\n", "expected a table [label], got 3"),
        ("[init]\n", "[init] needs teacher (a string)"),
        (
            '[init]\nteacher = "tiny"\ndecoder_layer = 2\n',
            "[init] has an unknown key 'decoder_layer' (its keys: decoder_layers,",
        ),
        ("[init\n", "is no TOML file"),
    ],
)
def test_an_invalid_recipe_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(tmp_path, text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_error_lists_all_problems(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"max_were.*decoder_layers: expected a whole number"):
        parse(
            tmp_path, FULL_RECIPE.replace("max_wer", "max_were").replace("decoder_layers = 2", 'decoder_layers = "2"')
        )


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="expected a recipe"):
        read_recipe(tmp_path / "none.toml", load_verb)


@pytest.mark.parametrize("name", ["ablations.toml", "demo.toml", "mini-librispeech.toml"])
def test_shipped_recipes_are_valid(root: Path, name: str) -> None:
    assert tuple(stage.verb for stage in read_recipe(root / "recipes" / name, load_verb).stages)[:5] == STAGE_ORDER[:5]
