"""Ablations over one label store: shared students are trained once, and the teacher does not run."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import RECIPE, count_runs

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError, TrainingError
from whisperstill.evaluate import speed
from whisperstill.evaluate.suite.spec import name_datasets
from whisperstill.label import shard_writer
from whisperstill.records.eval_results import Ablation
from whisperstill.records.serialization import from_dict
from whisperstill.stages import run as running
from whisperstill.stages.ablate import AblateSettings, run
from whisperstill.stages.run import RunSettings


@pytest.fixture(scope="module", autouse=True)
def short_speed_measurements() -> Iterator[None]:
    """Speed is measured over one token per round instead of 24, without warm-up: only its presence is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "DECODE_STEPS", 1)
        patch.setattr(speed, "WARMUP_ROUNDS", 0)
        yield


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
    monkeypatch.setattr(shard_writer, "ShardWriter", None)  # labelling would fail now
    report = run(settings, NullConsole())
    assert report.students_trained == 5  # the recipe's, another threshold, fewer hours, one layer, cross-entropy only
    assert called.count("TrainSettings") == 5 and "LabelSettings" not in called
    tables = {ablation.name: ablation for ablation in report.ablations}
    assert [ablation for ablation in report.ablations if ablation.mean_over != tuple(ablation.rows[0].wer)] == []
    assert list(tables) == ["max_wer", "subset_hours", "decoder_layers", "objective"]
    own = [tables["max_wer"].rows[0], tables["decoder_layers"].rows[1], tables["objective"].rows[1]]
    assert own[0].wer == own[1].wer == own[2].wer
    assert [row.value for row in tables["decoder_layers"].rows] == ["1", "2"]
    parameters = [row.stats["parameters_decoder"] for row in tables["decoder_layers"].rows]
    assert parameters[0] < parameters[1]
    assert [row for row in tables["decoder_layers"].rows if not row.stats["relative_speed"] > 0] == []
    assert tables["subset_hours"].rows[0].stats["hours_kept"] <= 0.01 < own[0].stats["hours_kept"]
    for ablation in report.ablations:
        assert [row for row in ablation.rows if not (row.low <= row.high and 1 <= row.stats["steps"] <= 2)] == []

    folder = Path(report.output)
    written = json.loads((folder / "ablations.json").read_text())["ablations"]
    assert tuple(from_dict(Ablation, content) for content in written)[:2] == report.ablations[:2]
    assert "5000" in (folder / "ablations.md").read_text()

    called.clear()
    again = run(settings, NullConsole())
    assert not called
    assert [row.wer for ablation in again.ablations for row in ablation.rows] == [
        row.wer for ablation in report.ablations for row in ablation.rows
    ]
    shutil.rmtree(next(folder.glob("student-????????")))
    run(settings, NullConsole())
    assert called == ["TrainSettings"]


def test_a_failed_training_does_not_stop_the_others(settings: AblateSettings) -> None:
    changed = replace(settings, max_wer=(), subset_hours=(1e-6, 0.01), decoder_layers=(), objective=())
    report = run(changed, NullConsole())
    assert [row.value for row in report.ablations[0].rows] == ["0.01"]
    (failed,) = report.failed
    assert failed.startswith("subset_hours 1e-06, seed 0: no window of")
    with pytest.raises(TrainingError, match="nothing could be trained, the last: subset_hours 1e-06"):
        run(replace(changed, subset_hours=(1e-6,)), NullConsole())


def test_output_is_relative_to_the_working_directory(
    settings: AblateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the directory of the recipe, unlike paths inside the recipe."""
    monkeypatch.chdir(tmp_path)
    changed = replace(
        settings, subset_hours=(), decoder_layers=(), objective=(), max_wer=(100000.0,), output=Path("here")
    )
    assert run(changed, NullConsole()).ablations[0].rows[0].stats["steps"] >= 1
    assert len(list((tmp_path / "here").glob("student-????????"))) == 1


def test_invalid_ablations_are_errors(settings: AblateSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing is varied: name at least one of --max-wer"):
        run(AblateSettings(settings.recipe), NullConsole())
    with pytest.raises(SettingsError, match="chunk_length and long_form_manifest go together"):
        run(replace(settings, chunk_length=(10.0,)), NullConsole())
    with pytest.raises(SettingsError, match="numbers with commas"):
        run(replace(settings, layers=("a",)), NullConsole())
    with pytest.raises(SettingsError, match="in_distribution: expected names of test datasets"):
        run(replace(settings, in_distribution=("nowhere",)), NullConsole())
    layers = tmp_path / "layers.toml"
    layers.write_text(settings.recipe.read_text().replace("[init]", "[init]\nlayers = [0, 1]"))
    with pytest.raises(SettingsError, match=r"sets init\.layers"):
        run(replace(settings, recipe=layers), NullConsole())
    bare = tmp_path / "bare.toml"
    bare.write_text(settings.recipe.read_text().split("[evaluate]")[0].replace("/out", "/elsewhere"))
    with pytest.raises(SettingsError) as error:
        run(replace(settings, recipe=bare), NullConsole())
    assert "needs [evaluate]" in str(error.value) and "run --only label" in str(error.value)


def test_dataset_names_are_unique() -> None:
    assert list(name_datasets(["a/read/manifest.jsonl", "b/street"])) == ["read", "street"]
    assert list(name_datasets(["a/read/manifest.jsonl", "b/read"])) == ["a/read/manifest.jsonl", "b/read"]
    assert list(name_datasets(["a/read/test.jsonl", "hf:org/name/config/split"])) == [
        "read-test",
        "org-name-config-split",
    ]
