"""A recipe is strict, and its stages take what the ones before them leave."""

from pathlib import Path

import pytest

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.stages.recipe import STAGE_ORDER, Recipe, read_recipe

WHOLE = """
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


def recipe_of(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_stages_are_chained(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    recipe = recipe_of(tmp_path, WHOLE)
    assert (recipe.name, recipe.output, recipe.folder) == ("trial", Path("runs/trial"), tmp_path)
    assert tuple(stage.verb for stage in recipe.stages) == STAGE_ORDER
    label, rules, init, train, evaluate, transcribe = (stage.settings for stage in recipe.stages)
    root = Path("runs/trial")
    assert [str(source) for source in label.manifest] == [str(tmp_path / "train.jsonl")]
    assert label.output == root / "labels"
    assert (rules.labels, rules.output, rules.max_wer) == (root / "labels", root / "filtered", 10.0)
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


def test_the_recipe_has_the_last_word(tmp_path: Path) -> None:
    recipe = recipe_of(
        tmp_path,
        '[label]\nteacher = "base"\nmanifest = ["a"]\noutput = "/kept/labels"\n[filter]\n[init]\nteacher = "tiny"\n',
    )
    label, rules, init = (stage.settings for stage in recipe.stages)
    assert label.output == Path("/kept/labels") == rules.labels
    assert init.teacher == "tiny"
    assert recipe.name == "recipe"
    assert recipe.output == Path("runs/recipe")


def test_what_a_stage_leaves_lies_beside_the_recipe_for_all(tmp_path: Path) -> None:
    """Before it was made, and after."""
    text = (
        '[label]\nteacher = "base"\nmanifest = ["a"]\n[init]\n[train]\noutput = "mine"\n[evaluate]\nmanifest = ["a"]\n'
    )
    text += '[transcribe]\naudio = ["a.wav"]\n'
    for _ in range(2):
        *_, train, evaluate, transcribe = (stage.settings for stage in recipe_of(tmp_path, text).stages)
        assert train.output == tmp_path / "mine" == Path(transcribe.model)
        assert [str(one) for one in evaluate.model] == ["base", str(tmp_path / "mine")]
        train.output.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no stage"),
        ("name = 3\n[init]\n", "name: expected a string, got 3"),
        ("[lable]\n", "knows no key 'lable' (it knows name, output, label, filter"),
        ("label = 3\n", "expected a table [label], got 3"),
        ("[init]\n", "[init] needs teacher (a string)"),
        (
            '[init]\nteacher = "tiny"\ndecoder_layer = 2\n',
            "[init] knows no key 'decoder_layer' (it knows decoder_layers,",
        ),
        ("[init\n", "is no TOML file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        recipe_of(tmp_path, text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"max_were.*decoder_layers: expected a whole number"):
        recipe_of(tmp_path, WHOLE.replace("max_wer", "max_were").replace("decoder_layers = 2", 'decoder_layers = "2"'))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="expected a recipe"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["ablations.toml", "demo.toml", "mini-librispeech.toml"])
def test_the_recipes_of_the_project_are_valid(root: Path, name: str) -> None:
    assert tuple(stage.verb for stage in read_recipe(root / "recipes" / name).stages)[:5] == STAGE_ORDER[:5]
