"""run does what is missing, and only that."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whisperstill.errors import SettingsError, StoreError
from whisperstill.records import Skipped
from whisperstill.stages import recipe as recipes
from whisperstill.stages import run as running
from whisperstill.stages import run_settings
from whisperstill.stages.console import NullConsole
from whisperstill.stages.run import RunReport, RunSettings


@dataclass(frozen=True)
class First:
    manifest: tuple[str, ...]
    output: Path
    size: int = 1
    packing_variants: int = 1


@dataclass(frozen=True)
class Second:
    labels: Path
    output: Path


@dataclass(frozen=True)
class Third:
    labels: Path
    output: Path
    skip_existing: bool = False


@dataclass(frozen=True)
class Made:
    value: float
    problems: tuple[Skipped, ...] = ()
    finished: bool = True


class Kitchen:
    """A recipe of two stages that count how often they are carried out."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.breaks: set[str] = set()
        self.stops: set[str] = set()
        (folder / "speech.jsonl").write_text("one", encoding="utf-8")
        self.write(size=1)
        monkeypatch.setattr(recipes, "settings_type_of", {"label": First, "filter": Second}.__getitem__)
        monkeypatch.setattr(running, "run_settings", self.run_settings)
        monkeypatch.chdir(folder)

    def write(self, size: int, manifests: str = '"./speech.jsonl"', packing_variants: int = 1) -> None:
        settings = f"manifest = [{manifests}]\nsize = {size}\npacking_variants = {packing_variants}"
        text = f'output = "out"\n[label]\n{settings}\n[filter]\n'
        (self.folder / "r.toml").write_text(text, encoding="utf-8")

    def run_settings(self, settings: Any, console: object) -> Made:
        self.calls.append(type(settings).__name__)
        settings.output.mkdir(parents=True, exist_ok=True)
        (settings.output / "content").write_text(str(settings), encoding="utf-8")
        if type(settings).__name__ in self.breaks:
            raise StoreError("broken")
        return Made(float("inf"), (Skipped("a.wav", "empty"),), finished=type(settings).__name__ not in self.stops)

    def run(self, **settings: Any) -> RunReport:
        self.calls.clear()
        return running.run(RunSettings(Path("r.toml"), **settings), NullConsole())


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    return Kitchen(tmp_path, monkeypatch)


def test_the_second_time_nothing_is_done(kitchen: Kitchen) -> None:
    report = kitchen.run()
    assert kitchen.calls == ["First", "Second"]
    assert [outcome.ran for outcome in report.stages] == [True, True]
    assert len(report.problems) == 2
    again = kitchen.run()
    assert kitchen.calls == []
    assert [outcome.ran for outcome in again.stages] == [False, False]
    assert again.stages[0].report == {
        "value": None,
        "problems": [{"source": "a.wav", "reason": "empty"}],
        "finished": True,
    }
    assert again.problems == ()
    assert json.loads(Path("out/report.json").read_text())["stages"][0]["verb"] == "label"


def test_a_change_of_settings_makes_what_depends_on_it_anew(kitchen: Kitchen) -> None:
    kitchen.run()
    kitchen.write(size=2)
    kitchen.run()
    assert kitchen.calls == ["First", "Second"]
    assert "size=1" in Path("out/labels.old-1/content").read_text()
    assert "size=2" in Path("out/labels/content").read_text()


def test_labels_grow(kitchen: Kitchen) -> None:
    """More corpora, or more packings of a single one: in place. Anything else beside it: anew."""
    (kitchen.folder / "more.jsonl").write_text("two", encoding="utf-8")
    aside = [kitchen.folder / "out" / f"labels.old-{number}" for number in (1, 2, 3, 4)]
    kitchen.run()
    kitchen.write(1, packing_variants=2)
    kitchen.run()
    kitchen.write(1, '"./speech.jsonl", "./more.jsonl"', 2)
    kitchen.run()
    assert kitchen.calls == ["First", "Second"] and not aside[0].exists()
    for number, (size, manifests, packing_variants) in enumerate(
        [
            (1, '"./speech.jsonl", "./more.jsonl"', 3),
            (1, '"./speech.jsonl"', 3),
            (2, '"./speech.jsonl", "./more.jsonl"', 3),
        ]
    ):
        kitchen.write(size, manifests, packing_variants)
        kitchen.run()
        assert aside[number].exists()
    (kitchen.folder / "speech.jsonl").write_text("changed", encoding="utf-8")
    kitchen.write(2, '"./speech.jsonl", "./more.jsonl", "./speech.jsonl"', 3)
    kitchen.run()
    assert aside[3].exists()


def test_a_change_of_the_manifest_is_seen_and_a_touch_is_not(kitchen: Kitchen) -> None:
    kitchen.run()
    Path("speech.jsonl").write_text("one", encoding="utf-8")
    kitchen.run()
    assert kitchen.calls == []
    Path("speech.jsonl").write_text("two", encoding="utf-8")
    kitchen.run()
    assert kitchen.calls == ["First", "Second"]


def test_a_stage_that_broke_is_called_again_on_what_it_left(kitchen: Kitchen) -> None:
    kitchen.breaks = {"Second"}
    with pytest.raises(StoreError):
        kitchen.run()
    kitchen.breaks = set()
    kitchen.run()
    assert kitchen.calls == ["Second"]
    assert not Path("out/filtered.old-1").exists()


def test_a_stage_that_was_stopped_stops_the_recipe_and_goes_on_next_time(kitchen: Kitchen) -> None:
    kitchen.stops = {"First"}
    assert not kitchen.run().finished
    assert kitchen.calls == ["First"]
    kitchen.stops = set()
    assert kitchen.run().finished
    assert kitchen.calls == ["First", "Second"]


def test_an_output_that_was_removed_is_made_again(kitchen: Kitchen) -> None:
    kitchen.run()
    Path("out/filtered/content").unlink()
    Path("out/filtered").rmdir()
    kitchen.run()
    assert kitchen.calls == ["Second"]


def test_only_and_force(kitchen: Kitchen) -> None:
    assert not kitchen.run(only=("label",)).finished
    assert kitchen.calls == ["First"]
    kitchen.run()
    assert kitchen.calls == ["Second"]
    kitchen.run(force=("filter",))
    assert kitchen.calls == ["Second"]
    with pytest.raises(SettingsError, match="expected stages of the recipe"):
        kitchen.run(only=("bake",))


def test_what_was_made_otherwise_keeps_its_mark(kitchen: Kitchen) -> None:
    """A later stage alone, after an earlier one's settings were changed: it learns from what is there, and says so."""
    kitchen.run()
    kitchen.write(size=2)
    kitchen.run(only=("filter",))
    assert kitchen.calls == []  # of the labels that are there it was made already
    kitchen.run()
    assert kitchen.calls == ["First", "Second"]


def test_only_settings_of_a_stage_can_be_carried_out() -> None:
    with pytest.raises(SettingsError, match="expected the settings of a stage"):
        run_settings(3)


def test_again_goes_on_where_it_was_stopped(kitchen: Kitchen) -> None:
    """And from a run that was stopped before, it begins from nothing."""
    kitchen.breaks = {"Second"}
    with pytest.raises(StoreError):
        kitchen.run()
    for _ in range(2):
        with pytest.raises(StoreError):
            kitchen.run(force=("filter",))
    with pytest.raises(StoreError):
        kitchen.run()
    kitchen.breaks = set()
    assert kitchen.run(force=("filter",)).finished
    assert kitchen.calls == ["Second"]
    assert Path("out/filtered.old-1").exists() and not Path("out/filtered.old-2").exists()
    assert kitchen.run(force=("filter",)).finished  # it had come to its end: this is another
    assert Path("out/filtered.old-2").exists()


def test_what_was_transcribed_before_a_stop_stays(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def run_settings(settings: Any, console: object) -> Made:
        if isinstance(settings, Third):
            seen.append(settings.skip_existing)
        return kitchen.run_settings(settings, console)

    monkeypatch.setattr(recipes, "settings_type_of", {"label": First, "filter": Third}.__getitem__)
    monkeypatch.setattr(running, "run_settings", run_settings)
    kitchen.breaks = {"Third"}
    with pytest.raises(StoreError):
        kitchen.run()
    kitchen.breaks = set()
    assert kitchen.run().finished and kitchen.run(force=("filter",)).finished
    assert seen == [False, True, False]
