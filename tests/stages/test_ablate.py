"""One setting varied at a time over one store: what is shared is trained once, and the teacher is never asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import RECIPE, count_runs

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError, TrainingError
from whisperstill.label import shard_writer as labeller
from whisperstill.records.eval_results import Ablation
from whisperstill.records.serialization import from_dict
from whisperstill.stages import run as running
from whisperstill.stages.ablate import AblateSettings, run
from whisperstill.stages.ablation import dataset_names
from whisperstill.stages.run import RunSettings


@pytest.fixture(scope="module")
def settings(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> AblateSettings:
    folder = tmp_path_factory.mktemp("ablate")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(output=folder / "out", teacher=small_teacher, corpus=small_corpus), encoding="utf-8")
    running.run(RunSettings(path, only=("label",)), NullConsole())
    return AblateSettings(
        path,
        max_wer=(100000.0, 5000.0),
        subset_hours=(0.01,),
        decoder_layers=(1, 2),
        objective=("ce", "ce+kl"),
        max_steps=2,
        limit=2,
        bootstrap_resamples=50,
    )


def test_each_student_is_trained_once_without_the_teacher(
    settings: AblateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    count_runs(monkeypatch, called)
    monkeypatch.setattr(labeller, "ShardWriter", None)  # whoever wants to label now fails
    report = run(settings, NullConsole())
    assert report.students_trained == 5  # the recipe's own, another limit, fewer hours, one layer, pseudo-labels alone
    assert called.count("TrainSettings") == 5 and "LabelSettings" not in called
    tables = {one.name: one for one in report.ablations}
    assert all(one.mean_over == tuple(one.rows[0].wer) for one in report.ablations)
    assert list(tables) == ["max_wer", "subset_hours", "decoder_layers", "objective"]
    own = [tables["max_wer"].rows[0], tables["decoder_layers"].rows[1], tables["objective"].rows[1]]
    assert own[0].wer == own[1].wer == own[2].wer
    assert [row.value for row in tables["decoder_layers"].rows] == ["1", "2"]
    parameters = [row.stats["parameters_decoder"] for row in tables["decoder_layers"].rows]
    assert parameters[0] < parameters[1]
    assert all(row.stats["relative_speed"] > 0 for row in tables["decoder_layers"].rows)
    assert tables["subset_hours"].rows[0].stats["hours_kept"] <= 0.01 < own[0].stats["hours_kept"]
    for one in report.ablations:
        assert all(row.low <= row.high and 1 <= row.stats["steps"] <= 2 for row in one.rows)

    place = Path(report.output)
    written = json.loads((place / "ablations.json").read_text())["ablations"]
    assert tuple(from_dict(Ablation, one) for one in written)[:2] == report.ablations[:2]
    assert "5000" in (place / "ablations.md").read_text()

    called.clear()
    again = run(settings, NullConsole())
    assert not called
    assert [row.wer for one in again.ablations for row in one.rows] == [
        row.wer for one in report.ablations for row in one.rows
    ]
    shutil.rmtree(next(place.glob("student-????????")))
    run(settings, NullConsole())
    assert called == ["TrainSettings"]


def test_what_cannot_be_trained_costs_no_other(settings: AblateSettings) -> None:
    one = replace(settings, max_wer=(), subset_hours=(1e-6, 0.01), decoder_layers=(), objective=())
    report = run(one, NullConsole())
    assert [row.value for row in report.ablations[0].rows] == ["0.01"]
    (failed,) = report.failed
    assert failed.startswith("subset_hours 1e-06, seed 0: no window of")
    with pytest.raises(TrainingError, match="nothing could be trained, the last: subset_hours 1e-06"):
        run(replace(one, subset_hours=(1e-6,)), NullConsole())


def test_a_relative_output_is_relative_to_where_one_is(
    settings: AblateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the recipe, as the paths within it are."""
    monkeypatch.chdir(tmp_path)
    one = replace(settings, subset_hours=(), decoder_layers=(), objective=(), max_wer=(100000.0,), output=Path("here"))
    assert run(one, NullConsole()).ablations[0].rows[0].stats["steps"] >= 1
    assert len(list((tmp_path / "here").glob("student-????????"))) == 1


def test_what_cannot_be_varied(settings: AblateSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing is varied: name at least one of --max-wer"):
        run(AblateSettings(settings.recipe), NullConsole())
    with pytest.raises(SettingsError, match="chunk_length and long_form_manifest go together"):
        run(replace(settings, chunk_length=(10.0,)), NullConsole())
    with pytest.raises(SettingsError, match="numbers with commas"):
        run(replace(settings, layers=("a",)), NullConsole())
    with pytest.raises(SettingsError, match="in_distribution must name test datasets"):
        run(replace(settings, in_distribution=("nowhere",)), NullConsole())
    layers = tmp_path / "layers.toml"
    layers.write_text(settings.recipe.read_text().replace("[init]", "[init]\nlayers = [0, 1]"))
    with pytest.raises(SettingsError, match=r"names init\.layers"):
        run(replace(settings, recipe=layers), NullConsole())
    bare = tmp_path / "bare.toml"
    bare.write_text(settings.recipe.read_text().split("[evaluate]")[0].replace("/out", "/elsewhere"))
    with pytest.raises(SettingsError) as error:
        run(replace(settings, recipe=bare), NullConsole())
    assert "has no [evaluate]" in str(error.value) and "run --only label" in str(error.value)


def test_sets_are_told_apart() -> None:
    assert dataset_names(["a/read/manifest.jsonl", "b/street"]) == ["read", "street"]
    assert dataset_names(["a/read/manifest.jsonl", "b/read"]) == ["a/read/manifest.jsonl", "b/read"]
