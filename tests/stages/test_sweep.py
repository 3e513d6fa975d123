"""`sweep`: one recipe in many variants over one label store."""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import RECIPE, count_runs

from whisperstill.console import Console, NullConsole
from whisperstill.distill import validation
from whisperstill.distill.validation import Validation, ValidationItem
from whisperstill.errors import SettingsError, TrainingError
from whisperstill.records import Utterance
from whisperstill.stages import filter as filtering, run as running, train
from whisperstill.stages.run import RunSettings
from whisperstill.stages.sweep import SweepSettings, run


@pytest.fixture
def sweep(small_teacher: Path, small_corpus: Path, tmp_path: Path) -> SweepSettings:
    path = tmp_path / "recipe.toml"
    text = RECIPE.format(output=tmp_path / "out", teacher=small_teacher, corpus=small_corpus)
    path.write_text(text, encoding="utf-8")
    running.run(RunSettings(path, only=("label",)), NullConsole())
    grid = ("train.learning_rate=[1e-3, 1e-2]", "init.layers=[[0, 2], [0, 1]]")
    return SweepSettings(path, grid, seeds=(0, 1))


def test_validation_is_encoded_once(sweep: SweepSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    original = Validation._build_items

    def items(self: Validation, utterances: Sequence[Utterance]) -> list[ValidationItem]:
        encoded.append(len(utterances))
        return original(self, utterances)

    monkeypatch.setattr(Validation, "_build_items", items)
    alone = replace(sweep, grid=())
    shared = run(replace(alone, output=tmp_path / "shared"), NullConsole())
    assert len(shared.rows[0].validation_wer) == 2 and len(encoded) == 1
    monkeypatch.setattr(validation, "shared_encoder_cache", nullcontext)  # negative control
    assert run(replace(alone, output=tmp_path / "each"), NullConsole()).rows == shared.rows
    assert len(encoded) == 1 + 2


def test_a_grid_is_trained_once(sweep: SweepSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    count_runs(monkeypatch, trained)
    rates = replace(sweep, grid=sweep.grid[:1])
    report = run(rates, NullConsole())
    assert sorted(trained) == ["FilterSettings", "InitSettings", *["TrainSettings"] * 4]
    assert sorted(row.values["train.learning_rate"] for row in report.rows) == [1e-3, 1e-2]
    assert [row for row in report.rows if not (set(row.validation_wer) == {0, 1} and row.steps == 2)] == []
    assert [row.mean for row in report.rows] == sorted(row.mean for row in report.rows)
    folder = tmp_path / "out" / "sweep"
    assert json.loads((folder / "sweep.json").read_text())[0]["values"] == report.rows[0].values
    assert "learning_rate 0.001" in (folder / "sweep.md").read_text()
    weights = {path.read_bytes() for path in folder.glob("*seed*/model.safetensors")}
    assert len(weights) == 4  # rates and seeds make a difference

    trained.clear()
    assert run(rates, NullConsole()) == report and not trained
    shutil.rmtree(next(folder.glob("learning_rate-0.01-seed-1-????????")))
    assert run(rates, NullConsole()) == report
    assert trained == ["TrainSettings"]

    trained.clear()
    wider = run(replace(sweep, seeds=(0,), max_steps=1), NullConsole())
    assert sorted(trained) == ["InitSettings", "InitSettings", *["TrainSettings"] * 4]
    assert len(wider.rows) == 4 and all(row.steps == 1 for row in wider.rows)


def test_pilots_choose_the_wer_threshold(sweep: SweepSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pilots are trained; their validation WER is replaced by planted values."""
    planted = {1e6: 30.0, 1e5: 10.0, 1e4: 10.0}
    original = train.run

    def pilot(settings: train.TrainSettings, console: Console) -> train.TrainReport:
        limit = json.loads((settings.labels / "filter.json").read_text())["settings"]["max_wer"]
        return replace(original(settings, console), best_wer=planted[limit])

    monkeypatch.setattr(train, "run", pilot)
    limits = ", ".join(f"{limit:.1f}" for limit in planted)
    tuned = f'[filter]\ntune = "./recipe.toml"\ntune_steps = 1\ntune_wer = [{limits}]'
    sweep.recipe.write_text(sweep.recipe.read_text().replace("[filter]", tuned), encoding="utf-8")
    running.run(RunSettings(sweep.recipe, only=("filter",)), NullConsole())
    filtered = tmp_path / "out" / "filtered"
    summary = json.loads((filtered / "filter.json").read_text())
    assert summary["settings"]["max_wer"] == 1e5  # of two equal pilots the one that keeps more
    assert summary["pilots"] == {"1e+06": 30.0, "100000": 10.0, "10000": 10.0}
    assert (tmp_path / "out" / "filtered-pilots" / "sweep.md").exists()
    settings = filtering.FilterSettings(labels=tmp_path / "out" / "labels", output=filtered, tune=sweep.recipe)
    rules = {"min_logprob": -100.0, "max_tokens_per_second": 1000.0, "max_compression_ratio": 1000.0}
    settings = replace(settings, **rules, drop_empty=False, tune_wer=(1e6, 1e4), tune_steps=1)
    assert filtering.run(replace(settings, max_ngram_repeats=1000), NullConsole()).max_wer == 1e4
    of_pilots = [
        json.loads(path.read_text())["settings"]["max_ngram_repeats"]
        for path in (tmp_path / "out" / "filtered-pilots").glob("filter-*/filter.json")
    ]
    assert sorted(of_pilots) == [4, 4, 4, 1000, 1000]  # rules of the settings, not of the recipe
    with pytest.raises(TrainingError, match=r"subset_hours 1e-06.*: no window of .* is left"):
        filtering.run(replace(settings, subset_hours=1e-6), NullConsole())  # pilots are trained on as many hours
    with pytest.raises(SettingsError, match="sets min_logprob: pilots need the same rules"):
        filtering.run(replace(settings, min_logprob=None), NullConsole())
    with pytest.raises(SettingsError, match="uses the labels in"):
        filtering.run(replace(settings, labels=shutil.copytree(settings.labels, tmp_path / "others")), NullConsole())


def test_settings_that_cannot_vary(sweep: SweepSettings, tmp_path: Path) -> None:
    for entry, problem in (
        ("label.top_k=[1, 2]", r"label\.top_k cannot vary: expected a setting of filter, init, train"),
        ("train.seed=[1, 2]", "use --seeds for seeds"),
        ("train.dropout", "expected a name and a list"),
        ("train.dropout=0.1", "expected a name and a list"),
        ("train.dropout=[0.1", "expected TOML values"),
        ("train.speed=[1]", "has an unknown key 'speed'"),
    ):
        with pytest.raises(SettingsError, match=problem):
            run(replace(sweep, grid=(entry,)), NullConsole())
    sweep.recipe.write_text(sweep.recipe.read_text().replace("[init]", "[init]\nlayers = [0, 1]"))
    with pytest.raises(SettingsError, match=r"has no effect beside the recipe's init\.layers"):
        run(replace(sweep, grid=("init.decoder_layers=[1, 2]",)), NullConsole())
    shutil.rmtree(tmp_path / "out" / "labels")
    with pytest.raises(SettingsError, match="whisperstill run --only label"):
        run(sweep, NullConsole())


def test_a_failed_training_does_not_stop_the_others(sweep: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = replace(sweep, grid=("filter.max_wer=[0.0, 1e6]",), seeds=(0,), max_steps=1)
    report = run(rules, NullConsole())
    assert [row.values["filter.max_wer"] for row in report.rows] == [1e6]
    assert len(report.failed) == 1 and "every utterance was dropped" in report.failed[0]
    with pytest.raises(TrainingError, match=r"all 1 trainings failed, the last: (filter\.)?max_wer 0"):
        run(replace(rules, grid=("filter.max_wer=[0.0]",)), NullConsole())
