"""One setting varied at a time over one store: what is shared is trained once, and the teacher is never asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import RECIPE

from whisperstill.errors import SettingsError, TrainingError
from whisperstill.label import labeller
from whisperstill.records.findings import Ablation
from whisperstill.records.plain import from_plain
from whisperstill.stages import run as running
from whisperstill.stages.ablate import AblateSettings, run
from whisperstill.stages.ablation import names_of
from whisperstill.stages.console import Silent
from whisperstill.stages.run import RunSettings


@pytest.fixture(scope="module")
def settings(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> AblateSettings:
    folder = tmp_path_factory.mktemp("ablate")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(output=folder / "out", teacher=small_teacher, corpus=small_corpus), encoding="utf-8")
    running.run(RunSettings(path, only=("label",)), Silent())
    return AblateSettings(
        path,
        max_wer=(100000.0, 5000.0),
        hours=(0.01,),
        decoder_layers=(1, 2),
        objective=("pl", "pl+kl"),
        max_steps=2,
        limit=2,
        bootstrap_resamples=50,
    )


def test_each_student_is_trained_once_without_the_teacher(
    settings: AblateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    original = running.carry_out

    def counted(stage: object, console: object) -> object:
        called.append(type(stage).__name__)
        return original(stage, console)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "carry_out", counted)
    monkeypatch.setattr(labeller, "Labeller", None)  # whoever wants to label now fails
    report = run(settings, Silent())
    assert report.trained == 5  # the recipe's own, another limit, fewer hours, one layer, pseudo-labels alone
    assert called.count("TrainSettings") == 5 and "LabelSettings" not in called
    tables = {one.name: one for one in report.ablations}
    assert all(one.mean_over == tuple(one.rows[0].wer) for one in report.ablations)
    assert list(tables) == ["max_wer", "hours", "decoder_layers", "objective"]
    own = [tables["max_wer"].rows[0], tables["decoder_layers"].rows[1], tables["objective"].rows[1]]
    assert own[0].wer == own[1].wer == own[2].wer
    assert [row.value for row in tables["decoder_layers"].rows] == ["1", "2"]
    parameters = [row.facts["parameters_decoder"] for row in tables["decoder_layers"].rows]
    assert parameters[0] < parameters[1]
    assert all(row.facts["relative_speed"] > 0 for row in tables["decoder_layers"].rows)
    assert tables["hours"].rows[0].facts["kept_hours"] <= 0.01 < own[0].facts["kept_hours"]
    for one in report.ablations:
        assert all(row.low <= row.high and 1 <= row.facts["steps"] <= 2 for row in one.rows)

    place = Path(report.output)
    written = json.loads((place / "ablations.json").read_text())["ablations"]
    assert tuple(from_plain(Ablation, one) for one in written)[:2] == report.ablations[:2]
    assert "5000" in (place / "ablations.md").read_text()

    called.clear()
    again = run(settings, Silent())
    assert not called
    assert [row.wer for one in again.ablations for row in one.rows] == [
        row.wer for one in report.ablations for row in one.rows
    ]
    shutil.rmtree(next(place.glob("student-????????")))
    run(settings, Silent())
    assert called == ["TrainSettings"]


def test_what_cannot_be_trained_costs_no_other(settings: AblateSettings) -> None:
    one = replace(settings, max_wer=(), hours=(1e-6, 0.01), decoder_layers=(), objective=())
    report = run(one, Silent())
    assert [row.value for row in report.ablations[0].rows] == ["0.01"]
    (failed,) = report.failed
    assert failed.startswith("hours 1e-06, seed 0: no window of")
    with pytest.raises(TrainingError, match="nothing could be trained, the last: hours 1e-06"):
        run(replace(one, hours=(1e-6,)), Silent())


def test_a_relative_output_is_relative_to_where_one_is(
    settings: AblateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the recipe, as the paths within it are."""
    monkeypatch.chdir(tmp_path)
    one = replace(settings, hours=(), decoder_layers=(), objective=(), max_wer=(100000.0,), output=Path("here"))
    assert run(one, Silent()).ablations[0].rows[0].facts["steps"] >= 1
    assert len(list((tmp_path / "here").glob("student-????????"))) == 1


def test_what_cannot_be_varied(settings: AblateSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing is varied: name at least one of --max-wer"):
        run(AblateSettings(settings.recipe), Silent())
    with pytest.raises(SettingsError, match="chunk_length and long go together"):
        run(replace(settings, chunk_length=(10.0,)), Silent())
    with pytest.raises(SettingsError, match="numbers with commas"):
        run(replace(settings, layers=("a",)), Silent())
    with pytest.raises(SettingsError, match="in_distribution must name test sets"):
        run(replace(settings, in_distribution=("nowhere",)), Silent())
    layers = tmp_path / "layers.toml"
    layers.write_text(settings.recipe.read_text().replace("[init]", "[init]\nlayers = [0, 1]"))
    with pytest.raises(SettingsError, match=r"names init\.layers"):
        run(replace(settings, recipe=layers), Silent())
    bare = tmp_path / "bare.toml"
    bare.write_text(settings.recipe.read_text().split("[evaluate]")[0].replace("/out", "/elsewhere"))
    with pytest.raises(SettingsError) as error:
        run(replace(settings, recipe=bare), Silent())
    assert "has no [evaluate]" in str(error.value) and "run --only label" in str(error.value)


def test_sets_are_told_apart() -> None:
    assert names_of(["a/read/manifest.jsonl", "b/street"]) == ["read", "street"]
    assert names_of(["a/read/manifest.jsonl", "b/read"]) == ["a/read/manifest.jsonl", "b/read"]
