"""The sweep equals filtering once per threshold."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from whisperstill.label.filter_rules import KEEP, RuleSettings, apply_filter, decide
from whisperstill.label.threshold_sweep import ThresholdSweep, plot_threshold_sweep, table_rows, to_markdown
from whisperstill.records import EditCounts, LabelQuality
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel

from unit.label.builders import make_label, make_quality


def qualities() -> list[LabelQuality]:
    wrong = [make_quality(f"u{n}", duration=1.0 + n, edits=EditCounts(50 - n, n, 0, n)) for n in range(25)]
    return [*wrong, make_quality("free", edits=None), make_quality("empty", text="")]


def test_every_point_equals_the_filter_at_that_threshold() -> None:
    everything = qualities()
    sweep = ThresholdSweep(RuleSettings(), (5, 40, 20, 20))
    sweep.add(apply_filter(make_label("w", *everything), RuleSettings()))
    points = sweep.points()
    assert [point.max_wer for point in points] == [None, 40, 20, 5]
    total = sum(quality.utterance.audio.duration for quality in everything)
    for point in points:
        passing = [
            quality for quality in everything if decide(quality, replace(RuleSettings(), max_wer=point.max_wer)).keep
        ]
        hours = sum(quality.utterance.audio.duration for quality in passing)
        assert point.utterances == len(passing)
        assert point.hours == pytest.approx(hours / 3600)
        assert point.hours_dropped == pytest.approx(100 - 100 * hours / total)
        edits = [quality.edits for quality in passing if quality.edits is not None]
        words = sum(counts.reference_length for counts in edits)
        assert point.wer == pytest.approx(100 * sum(counts.errors for counts in edits) / words)
        assert point.words == words + 3
    assert [(a, b) for a, b in pairwise(points) if not (a.hours >= b.hours and a.words >= b.words)] == []


def test_utterances_dropped_by_predicted_wer_stay_dropped() -> None:
    accepted, doubted = make_quality("kept", edits=None), make_quality("doubted", edits=None)
    sweep = ThresholdSweep(RuleSettings(), (5,))
    sweep.add(FilteredLabel(make_label("w", accepted, doubted), (KEEP, FilterDecision(False, "predicted_wer", 60.0))))
    assert [point.utterances for point in sweep.points()] == [1, 1]
    assert sweep.points()[0].hours_dropped == pytest.approx(50)
    loosened = ThresholdSweep(RuleSettings(), (5,))
    loosened.add(apply_filter(make_label("w", make_quality("wrong", edits=EditCounts(5, 5, 0, 0))), RuleSettings()))
    assert [point.utterances for point in loosened.points()] == [1, 0]  # dropped by a rule: kept at a looser threshold


def test_words_are_counted_in_the_language_of_the_label() -> None:
    """The manifest may not state the language of audio without a transcript."""
    chinese = make_quality("u", text="今天天气好", edits=None)
    for language, words in (("zh", 5), ("en", 1)):
        sweep = ThresholdSweep(RuleSettings())
        sweep.add(apply_filter(replace(make_label("w", chinese), language=language), RuleSettings()))
        assert sweep.points()[0].words == words


def test_an_empty_sweep() -> None:
    points = ThresholdSweep(RuleSettings()).points()
    assert len(points) == 8
    assert [point for point in points if not (point.wer is None and point.hours_dropped == 0)] == []
    assert table_rows(points)[0] == ["none", "0", "0.00", "0.0", "0", "-"]


def test_table_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sweep = ThresholdSweep(RuleSettings())
    sweep.add(apply_filter(make_label("w", *qualities()), RuleSettings()))
    lines = to_markdown(sweep.points()).splitlines()
    assert len(lines) == 10
    assert [line for line in lines if line.count("|") != 7] == []
    plot_threshold_sweep(sweep.points(), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1
