"""`run` runs the missing stages, and only those."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError, StoreError
from whisperstill.pipeline.recipe import StageVerb
from whisperstill.pipeline.runner import RunReport
from whisperstill.records import Skipped
from whisperstill.stages import run as run_stage_module
from whisperstill.stages.run import RunSettings


@dataclass(frozen=True)
class LabelLike:
    manifest: tuple[str, ...]
    output: Path
    size: int = 1
    packing_variants: int = 1


@dataclass(frozen=True)
class FilterLike:
    labels: Path
    output: Path


@dataclass(frozen=True)
class TranscribeLike:
    labels: Path
    output: Path
    skip_existing: bool = False


@dataclass(frozen=True)
class Report:
    value: float
    problems: tuple[Skipped, ...] = ()
    finished: bool = True


class TwoStages:
    """A recipe of two stages that record their runs in `calls`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.settings_types: dict[str, type] = {"label": LabelLike, "filter": FilterLike}
        self.calls: list[str] = []
        self.skip_existing: list[bool] = []
        self.failing: set[str] = set()
        self.stopping: set[str] = set()
        (folder / "speech.jsonl").write_text("one", encoding="utf-8")
        self.write(size=1)
        monkeypatch.setattr(run_stage_module, "load_verb", self.load_verb)
        monkeypatch.chdir(folder)

    def write(self, size: int, manifests: str = '"./speech.jsonl"', packing_variants: int = 1) -> None:
        settings = f"manifest = [{manifests}]\nsize = {size}\npacking_variants = {packing_variants}"
        text = f'output = "out"\n[label]\n{settings}\n[filter]\n'
        (self.folder / "r.toml").write_text(text, encoding="utf-8")

    def load_verb(self, name: str) -> StageVerb:
        return StageVerb(self.settings_types[name], self.run_stage)

    def run_stage(self, settings: Any, console: object) -> Report:
        verb = {LabelLike: "label", FilterLike: "filter", TranscribeLike: "filter"}[type(settings)]
        self.calls.append(verb)
        if isinstance(settings, TranscribeLike):
            self.skip_existing.append(settings.skip_existing)
        settings.output.mkdir(parents=True, exist_ok=True)
        (settings.output / "content").write_text(str(settings), encoding="utf-8")
        if verb in self.failing:
            raise StoreError("broken")
        return Report(float("inf"), (Skipped("a.wav", "empty"),), finished=verb not in self.stopping)

    def run(self, **settings: Any) -> RunReport:
        self.calls.clear()
        return run_stage_module.run(RunSettings(Path("r.toml"), **settings), NullConsole())


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoStages:
    return TwoStages(tmp_path, monkeypatch)


def test_finished_stages_are_skipped(stages: TwoStages) -> None:
    report = stages.run()
    assert stages.calls == ["label", "filter"]
    assert [result.ran for result in report.stages] == [True, True]
    assert len(report.problems) == 2
    again = stages.run()
    assert stages.calls == []
    assert [result.ran for result in again.stages] == [False, False]
    assert again.stages[0].report == {
        "value": None,
        "problems": [{"source": "a.wav", "reason": "empty"}],
        "finished": True,
    }
    assert again.problems == ()
    assert json.loads(Path("out/report.json").read_text())["stages"][0]["verb"] == "label"


def test_changed_settings_rerun_the_stage_and_those_after_it(stages: TwoStages) -> None:
    stages.run()
    stages.write(size=2)
    stages.run()
    assert stages.calls == ["label", "filter"]
    assert "size=1" in Path("out/labels.old-1/content").read_text()
    assert "size=2" in Path("out/labels/content").read_text()


def test_added_corpora_keep_the_labels(stages: TwoStages) -> None:
    """Added corpora, or more packing variants of one corpus: resume. Any other change: start from scratch."""
    (stages.folder / "more.jsonl").write_text("two", encoding="utf-8")
    aside = [stages.folder / "out" / f"labels.old-{number}" for number in (1, 2, 3, 4)]
    stages.run()
    stages.write(1, packing_variants=2)
    stages.run()
    stages.write(1, '"./speech.jsonl", "./more.jsonl"', 2)
    stages.run()
    assert stages.calls == ["label", "filter"] and not aside[0].exists()
    for number, (size, manifests, packing_variants) in enumerate(
        [
            (1, '"./speech.jsonl", "./more.jsonl"', 3),
            (1, '"./speech.jsonl"', 3),
            (2, '"./speech.jsonl", "./more.jsonl"', 3),
        ]
    ):
        stages.write(size, manifests, packing_variants)
        stages.run()
        assert aside[number].exists()
    (stages.folder / "speech.jsonl").write_text("changed", encoding="utf-8")
    stages.write(2, '"./speech.jsonl", "./more.jsonl", "./speech.jsonl"', 3)
    stages.run()
    assert aside[3].exists()


def test_changed_content_of_a_manifest_reruns_and_a_new_time_does_not(stages: TwoStages) -> None:
    stages.run()
    Path("speech.jsonl").write_text("one", encoding="utf-8")
    stages.run()
    assert stages.calls == []
    Path("speech.jsonl").write_text("two", encoding="utf-8")
    stages.run()
    assert stages.calls == ["label", "filter"]


def test_a_failed_stage_resumes_from_its_partial_output(stages: TwoStages) -> None:
    stages.failing = {"filter"}
    with pytest.raises(StoreError):
        stages.run()
    stages.failing = set()
    stages.run()
    assert stages.calls == ["filter"]
    assert not Path("out/filtered.old-1").exists()


def test_a_stopped_stage_stops_the_recipe_and_resumes_next_time(stages: TwoStages) -> None:
    stages.stopping = {"label"}
    assert not stages.run().finished
    assert stages.calls == ["label"]
    stages.stopping = set()
    assert stages.run().finished
    assert stages.calls == ["label", "filter"]


def test_a_removed_output_is_made_again(stages: TwoStages) -> None:
    stages.run()
    Path("out/filtered/content").unlink()
    Path("out/filtered").rmdir()
    stages.run()
    assert stages.calls == ["filter"]


def test_only_and_force(stages: TwoStages) -> None:
    assert not stages.run(only=("label",)).finished
    assert stages.calls == ["label"]
    stages.run()
    assert stages.calls == ["filter"]
    stages.run(force=("filter",))
    assert stages.calls == ["filter"]
    with pytest.raises(SettingsError, match="expected stages of the recipe"):
        stages.run(only=("bake",))


def test_a_later_stage_alone_uses_the_existing_output(stages: TwoStages) -> None:
    """After the settings of an earlier stage changed: the later stage keeps the key of the output it read."""
    stages.run()
    stages.write(size=2)
    stages.run(only=("filter",))
    assert stages.calls == []  # its output belongs to the existing labels
    stages.run()
    assert stages.calls == ["label", "filter"]


def test_force_resumes_an_interrupted_forced_run(stages: TwoStages) -> None:
    """After an interrupted run without force, it starts from scratch."""
    stages.failing = {"filter"}
    with pytest.raises(StoreError):
        stages.run()
    for _ in range(2):
        with pytest.raises(StoreError):
            stages.run(force=("filter",))
    with pytest.raises(StoreError):
        stages.run()
    stages.failing = set()
    assert stages.run(force=("filter",)).finished
    assert stages.calls == ["filter"]
    assert Path("out/filtered.old-1").exists() and not Path("out/filtered.old-2").exists()
    assert stages.run(force=("filter",)).finished  # the forced run had finished: this is another one
    assert Path("out/filtered.old-2").exists()


def test_a_resumed_stage_skips_existing_files(stages: TwoStages) -> None:
    stages.settings_types["filter"] = TranscribeLike
    stages.failing = {"filter"}
    with pytest.raises(StoreError):
        stages.run()
    stages.failing = set()
    assert stages.run().finished and stages.run(force=("filter",)).finished
    assert stages.skip_existing == [False, True, False]
