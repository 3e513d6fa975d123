"""The filter stage: decisions are written, the labels stay unchanged."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from whisperstill.atomic_io import file_sha256
from whisperstill.console import NullConsole
from whisperstill.errors import NotFoundError, SettingsError, StoreError
from whisperstill.label.filter_decisions import read_decisions
from whisperstill.label.filter_rules import apply_filter
from whisperstill.label.store import LABELS_SCHEMA, Shard, label_to_row, open_labels
from whisperstill.label.store_writer import LabelStoreWriter, write_shard_files
from whisperstill.records import EditCounts, PseudoLabel
from whisperstill.stages.filter import FilterSettings, run

from unit.label.builders import make_label, make_quality


class RecordingConsole(NullConsole):
    """Records warnings and tables."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.tables: dict[str, Sequence[Sequence[str]]] = {}

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        assert [row for row in rows if len(row) != len(columns)] == []
        self.tables[title] = rows


WINDOWS = (
    make_label("w1", make_quality("a"), make_quality("b", text="", edits=EditCounts(0, 0, 10, 0))),
    make_label("w2", make_quality("c", edits=EditCounts(45, 3, 2, 1)), make_quality("d", ngram_repeats=9)),
    make_label("w3", make_quality("e", edits=None), make_quality("f", edits=EditCounts(98, 2, 0, 0))),
)


def make_store(
    directory: Path, planned: int = 2, parts: Sequence[Sequence[PseudoLabel]] = (WINDOWS[:2], WINDOWS[2:])
) -> Path:
    writer = LabelStoreWriter(directory, {"settings": {"top_k": 0}}, {f"{number:05}": "" for number in range(planned)})
    for number, windows in enumerate(parts):
        table = pa.Table.from_pylist([label_to_row(window) for window in windows], schema=LABELS_SCHEMA)
        files = write_shard_files(directory, f"{number:05}", {"labels": table}, {})
        writer.add_shard(Shard(f"{number:05}", len(windows), 0.1, files))
    return directory


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return make_store(tmp_path / "labels")


def test_decisions_equal_the_rules(labels: Path, tmp_path: Path) -> None:
    before = {path.name: file_sha256(path) for path in labels.iterdir()}
    console = RecordingConsole()
    settings = FilterSettings(labels=labels, output=tmp_path / "filtered", max_wer=10.0)
    report = run(settings, console)
    assert (report.utterances, report.kept) == (6, 3)
    assert report.dropped == {"empty": 1, "repetition": 1, "wer": 1}
    assert report.hours_kept == pytest.approx(9 / 3600)
    assert report.wer_kept == pytest.approx(100 * 2 / 200)
    _, decisions = read_decisions(tmp_path / "filtered")
    for window in open_labels(labels).read_labels():
        for quality, expected in zip(window.quality, apply_filter(window, settings.rules).decisions, strict=True):
            assert decisions[window.window.id, quality.utterance.corpus, quality.utterance.id] == expected
    assert {path.name: file_sha256(path) for path in labels.iterdir()} == before
    assert [row[:2] for row in console.tables["filter decisions"]] == [
        ["kept", "3"], ["dropped: empty", "1"], ["dropped: repetition", "1"], ["dropped: wer", "1"], ["all", "6"]
    ]  # fmt: skip
    assert not console.warnings
    summary = json.loads((tmp_path / "filtered" / "filter.json").read_text())
    assert summary["settings"]["max_wer"] == 10
    assert summary["dropped"] == report.dropped
    assert not (tmp_path / "filtered" / "sweep.json").exists()


def test_sweep(labels: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    console = RecordingConsole()
    output = tmp_path / "filtered"
    run(FilterSettings(labels=labels, output=output, sweep=True, sweep_wer=(1.0, 5.0, 20.0)), console)
    points = json.loads((output / "sweep.json").read_text())["points"]
    assert [(point["max_wer"], point["utterances"]) for point in points] == [(None, 4), (20, 4), (5, 3), (1, 2)]
    assert len(console.tables["what would remain"]) == 4
    assert (output / "sweep.png").stat().st_size > 1000
    assert (output / "sweep.md").read_text().count("\n") == 6


def test_without_matplotlib_the_table_is_written(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    console = RecordingConsole()
    run(FilterSettings(labels=labels, output=tmp_path / "filtered", sweep=True), console)
    assert (tmp_path / "filtered" / "sweep.md").exists()
    assert not (tmp_path / "filtered" / "sweep.png").exists()
    assert "whisperstill[plots]" in console.warnings[0]


def test_filtering_again_with_other_rules(labels: Path, tmp_path: Path) -> None:
    output = tmp_path / "filtered"
    run(FilterSettings(labels=labels, output=output), NullConsole())
    console = RecordingConsole()
    report = run(FilterSettings(labels=labels, output=output, max_wer=0.0, require_reference=True), console)
    assert report.kept == sum(decision.keep for decision in read_decisions(output)[1].values()) == 1
    report = run(FilterSettings(labels=labels, output=output, min_logprob=-0.1), console)
    assert report.kept == 0
    assert "no utterance is kept" in console.warnings[-1]


def test_an_infinite_limit_is_written_as_null(labels: Path, tmp_path: Path) -> None:
    report = run(FilterSettings(labels=labels, output=tmp_path / "f", max_wer=float("inf")), NullConsole())
    assert "wer" not in report.dropped
    assert json.loads((tmp_path / "f" / "filter.json").read_text())["settings"]["max_wer"] is None


def test_unfinished_and_missing_labels(tmp_path: Path) -> None:
    console = RecordingConsole()
    run(FilterSettings(labels=make_store(tmp_path / "half", planned=3), output=tmp_path / "f"), console)
    assert "not finished" in console.warnings[0]
    with pytest.raises(NotFoundError, match="run `whisperstill label` first"):
        run(FilterSettings(labels=tmp_path / "none", output=tmp_path / "f"), console)
    manifest = tmp_path / "half" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    with pytest.raises(StoreError, match=r"before 0\.1\.0 \(format 1, expected 2\)"):
        open_labels(tmp_path / "half")
    with pytest.raises(SettingsError, match="sweep_wer"):
        run(FilterSettings(labels=tmp_path, output=tmp_path, sweep=True, sweep_wer=()), console)


def test_labels_without_a_reference_are_dropped_by_predicted_wer(tmp_path: Path) -> None:
    """A third of the labels is wrong and differs from the second opinion; half have no reference."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra prediction)")

    def window(index: int, opinion: bool) -> PseudoLabel:
        wrong = index % 3 == 0
        text = "nothing of that" if wrong != opinion else "a good day"
        edits = (EditCounts(1, 9, 0, 0) if wrong else EditCounts(10, 0, 0, 0)) if index % 2 else None
        logprob = -0.2 - 0.3 * wrong - 0.01 * (index % 7)
        return make_label(f"w{index}", make_quality(f"u{index}", text=text, edits=edits, mean_logprob=logprob))

    labels = make_store(tmp_path / "labels", 1, [[window(index, False) for index in range(120)]])
    proxy = make_store(
        tmp_path / "proxy", 1, [[make_label(f"w{index}", make_quality(f"u{index}")) for index in range(120)]]
    )
    common = {"labels": labels, "output": tmp_path / "filtered"}
    assert run(FilterSettings(**common), NullConsole()).dropped == {"wer": 20}
    report = run(FilterSettings(**common, max_predicted_wer=40.0, second_opinion=proxy), NullConsole())
    assert report.dropped == {"wer": 20, "predicted_wer": 20}
    assert report.calibration_utterances == 60 and report.correlation > 0.9
    _, decisions = read_decisions(tmp_path / "filtered")
    assert {name for (_, _, name), decision in decisions.items() if not decision.keep} == {
        f"u{index}" for index in range(0, 120, 3)
    }
    assert {decision.weight for decision in decisions.values()} == {1.0}
    run(
        FilterSettings(**common, max_predicted_wer=100.0, second_opinion=proxy, weight_by_predicted_wer=True),
        NullConsole(),
    )
    _, weighed = read_decisions(tmp_path / "filtered")
    weights = {int(name[1:]): decision.weight for (_, _, name), decision in weighed.items() if decision.keep}
    assert len(weights) == 100
    assert {weight for index, weight in weights.items() if index % 2} == {1.0}
    predicted = {index: weight for index, weight in weights.items() if not index % 2}
    wrong_weights = [weight for index, weight in predicted.items() if index % 3 == 0]
    right_weights = [weight for index, weight in predicted.items() if index % 3]
    assert max(wrong_weights) < 0.6
    assert 0.8 < min(right_weights) and max(right_weights) < 1.0
    with pytest.raises(SettingsError, match="weight_by_predicted_wer needs max_predicted_wer"):
        run(FilterSettings(**common, weight_by_predicted_wer=True), NullConsole())
    with pytest.raises(SettingsError, match="second_opinion needs max_predicted_wer"):
        run(FilterSettings(**common, second_opinion=proxy), NullConsole())
    with pytest.raises(SettingsError, match="0 to 100 per cent, got 400"):
        run(FilterSettings(**common, max_predicted_wer=400.0), NullConsole())
