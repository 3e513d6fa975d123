"""Results in display order, means over datasets, number formats."""

import math
from dataclasses import replace

import pytest

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.comparison import format_mean_wer, mean_paired_difference, mean_wer
from whisperstill.evaluate.report.corrupted_audio import noise_snr
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import PairedDifference

from unit.evaluate.report import builders


def test_teacher_is_first_and_a_student_is_the_main_model() -> None:
    eval_results = builders.full()
    view = ResultsView(replace(eval_results, models=eval_results.models[::-1]))
    assert [model.name for model in view.models][:3] == ["base", "student-4-layers", "student"]
    assert view.main_model is not None and view.main_model.name == "student-4-layers"
    assert [dataset.name for dataset in view.short_form_datasets] == ["mini-test", "test-other", "ljspeech", "prompts"]


def test_mean_over_datasets_is_unweighted() -> None:
    cells = [builders.cell(4.0, wer_low=3.0, wer_high=6.0), builders.cell(8.0, wer_low=7.0, wer_high=10.0, words=90)]
    mean = mean_wer(cells)
    assert mean is not None
    assert (mean.value, mean.num_datasets) == (6.0, 2)
    assert math.isclose(mean.low, 6.0 - math.sqrt(2) / 2)
    assert math.isclose(mean.high, 6.0 + math.sqrt(8) / 2)
    assert mean_wer([]) is None
    assert str(format_mean_wer(cells, 3)) == "6.0 (5.3–7.4) 2 of 3 datasets"


def test_mean_difference_is_over_paired_results() -> None:
    cells = [builders.cell(difference_to_teacher=PairedDifference(1.0, 0.0, 2.0, 0.1)), builders.cell()]
    difference = mean_paired_difference(cells)
    assert difference is not None
    assert (difference.value, difference.low, difference.high) == (1.0, 0.0, 2.0)


@pytest.mark.parametrize(
    ("condition", "snr", "words"),
    [
        ("white@10", 10.0, "white noise at 10 dB"),
        ("babble@-5", -5.0, "babble of other speakers at −5 dB"),
        ("kitchen@0", 0.0, "noise of kitchen at 0 dB"),
        ("opus@6", None, "Opus at 6 kbit/s"),
        ("telephone", None, "telephone band, mu-law"),
        ("clean", None, "clean"),
        ("odd", None, "odd"),
        ("opus@x", None, "opus@x"),
    ],
)
def test_conditions_are_parsed_and_described(condition: str, snr: float | None, words: str) -> None:
    assert noise_snr(builders.cell(condition=condition)) == snr
    assert fmt.condition(condition) == words


def test_best_strategy_has_the_most_datasets() -> None:
    eval_results = builders.full(models=("base", "student"))
    lucky = replace(eval_results.results[0], measurement="long_form", decoding="vad", dataset="long-ljspeech", wer=0.1)
    without_vad = tuple(result for result in eval_results.results if result.decoding != "vad")
    view = ResultsView(replace(eval_results, results=(*without_vad, replace(lucky, model="student"))))
    best = view.best_strategy("student")
    assert best[0] == "chunked"
    assert [cell.dataset for cell in best[1]] == ["long-librispeech", "long-ljspeech"]


def test_number_formats() -> None:
    assert (fmt.number(None), fmt.number(math.nan), fmt.number(-0.04), fmt.number(1234.5)) == (
        "–",
        "–",
        "0.0",
        "1\u202f234.5",
    )
    assert (fmt.signed(4.46), fmt.signed(-0.3), fmt.signed(0.0)) == ("+4.5", "−0.3", "0.0")
    assert str(fmt.rate(8.8, 7.3, 10.3)) == "8.8 (7.3–10.3)"
    assert str(fmt.difference(4.5, 3.4, 5.7)) == "+4.5 (+3.4 to +5.7)"
    assert (fmt.ratio(1.62), fmt.ratio(57.5), fmt.ratio(None)) == ("1.6×", "58×", "–")
    assert (fmt.millions(55_800_000), fmt.millions(1_543_000_000), fmt.millions(0)) == (
        "55.8",
        "1\u202f543",
        "–",
    )
    assert fmt.count(3453) == "3\u202f453"
