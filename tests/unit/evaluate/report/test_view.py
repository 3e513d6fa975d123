"""Results in display order, means over datasets, number formats."""

import math
from dataclasses import replace

import pytest

from whisperstill.evaluate.report.corrupted_audio import parse_noise_condition
from whisperstill.evaluate.report.formatting import (
    describe_condition,
    format_count,
    format_difference,
    format_millions,
    format_number,
    format_p_value,
    format_rate,
    format_ratio,
    format_signed,
)
from whisperstill.evaluate.report.view import (
    ResultsView,
    format_mean_wer,
    mean_paired_difference,
    mean_wer,
)
from whisperstill.records.eval_results import PairedDifference

from unit.evaluate.report import builders


def test_teacher_is_first_and_a_student_is_the_main_model() -> None:
    eval_results = builders.full()
    view = ResultsView(replace(eval_results, models=eval_results.models[::-1]))
    assert [one.name for one in view.models][:3] == ["base", "student-4-layers", "student"]
    assert view.main_model is not None and view.main_model.name == "student-4-layers"
    assert [one.name for one in view.short_form_datasets] == ["mini-test", "test-other", "ljspeech", "prompts"]


def test_mean_over_datasets_is_unweighted() -> None:
    cells = [builders.cell(4.0, wer_low=3.0, wer_high=6.0), builders.cell(8.0, wer_low=7.0, wer_high=10.0, words=90)]
    found = mean_wer(cells)
    assert found is not None
    assert (found.value, found.num_datasets) == (6.0, 2)
    assert math.isclose(found.low, 6.0 - math.sqrt(2) / 2)
    assert math.isclose(found.high, 6.0 + math.sqrt(8) / 2)
    assert mean_wer([]) is None
    assert str(format_mean_wer(cells, 3)) == "6.0 (5.3–7.4) 2 of 3 datasets"


def test_mean_difference_is_over_paired_results() -> None:
    cells = [builders.cell(difference_to_teacher=PairedDifference(1.0, 0.0, 2.0, 0.1)), builders.cell()]
    found = mean_paired_difference(cells)
    assert found is not None
    assert (found.value, found.low, found.high) == (1.0, 0.0, 2.0)


@pytest.mark.parametrize(
    ("condition", "noise", "words"),
    [
        ("white@10", ("white", 10.0), "white noise at 10 dB"),
        ("babble@-5", ("babble", -5.0), "babble of other speakers at -5 dB"),
        ("kitchen@0", ("kitchen", 0.0), "kitchen@0"),
        ("opus@6", None, "Opus at 6 kbit/s"),
        ("telephone", None, "telephone band, mu-law"),
        ("clean", None, "clean"),
        ("odd", None, "odd"),
        ("opus@x", None, "opus@x"),
    ],
)
def test_conditions_are_parsed_and_described(condition: str, noise: tuple[str, float] | None, words: str) -> None:
    assert parse_noise_condition(builders.cell(condition=condition)) == noise
    assert describe_condition(condition) == words


def test_best_strategy_has_the_most_datasets() -> None:
    eval_results = builders.full(models=("base", "student"))
    lucky = replace(eval_results.results[0], measurement="long_form", decoding="vad", dataset="long-ljspeech", wer=0.1)
    kept = tuple(one for one in eval_results.results if one.decoding != "vad")
    view = ResultsView(replace(eval_results, results=(*kept, replace(lucky, model="student"))))
    best = view.best_strategy("student")
    assert best is not None
    assert best[0] == "chunked"
    assert [cell.dataset for cell in best[1]] == ["long-librispeech", "long-ljspeech"]


def test_number_formats() -> None:
    assert (format_number(None), format_number(math.nan), format_number(-0.04), format_number(1234.5)) == (
        "–",
        "–",
        "0.0",
        "1\u202f234.5",
    )
    assert (format_signed(4.46), format_signed(-0.3), format_signed(0.0)) == ("+4.5", "−0.3", "0.0")
    assert str(format_rate(8.8, 7.3, 10.3)) == "8.8 (7.3–10.3)"
    assert str(format_difference(4.5, 3.4, 5.7)) == "+4.5 (+3.4 to +5.7)"
    assert (format_ratio(1.62), format_ratio(57.5), format_ratio(None)) == ("1.6×", "58×", "–")
    assert (format_millions(55_800_000), format_millions(1_543_000_000), format_millions(0)) == (
        "55.8",
        "1\u202f543",
        "–",
    )
    assert (format_p_value(0.0001), format_p_value(0.034), format_count(3453)) == ("< 0.002", "0.034", "3\u202f453")
