"""Estimates of `plan`."""

import pytest

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError
from whisperstill.pipeline.cost_estimate import KNOWN_SIZES, parameter_counts
from whisperstill.stages.plan import PAPER_HOURS_AND_WER, PlanSettings, fit_paper_curve, run, wer_above_paper_best

FAST = {"gflops": 400_000.0, "gigabytes_per_second": 2_500.0}


def test_the_curve_fits_the_paper() -> None:
    floor, a, b = fit_paper_curve()
    assert [(hours, wer) for hours, wer in PAPER_HOURS_AND_WER if not abs(floor + a * hours**-b - wer) < 0.35] == []
    assert wer_above_paper_best(21770) == 0.0
    assert wer_above_paper_best(435) == pytest.approx(16.4 - 11.4, abs=0.5)
    assert wer_above_paper_best(4) > wer_above_paper_best(25) > wer_above_paper_best(435)


@pytest.mark.parametrize(("name", "millions"), [("tiny", 38), ("base", 73), ("small", 242), ("large-v2", 1543)])
def test_parameter_counts_of_published_models(name: str, millions: float) -> None:
    assert sum(parameter_counts(KNOWN_SIZES[name])) / 1e6 == pytest.approx(millions, rel=0.03)


def test_cost_grows_with_hours_and_depth() -> None:
    once = run(PlanSettings("large-v2", 100.0, **FAST), NullConsole())
    assert once.student_parameters / 1e6 == pytest.approx(756, rel=0.02)  # the paper's distil-large-v2
    assert once.disk_bytes / 1e9 == pytest.approx(58, rel=0.1)  # 3.8 MB of states for each of 13 846 windows, and more
    twice = run(PlanSettings("large-v2", 200.0, **FAST), NullConsole())
    assert twice.label_seconds == pytest.approx(2 * once.label_seconds) and twice.disk_bytes == 2 * once.disk_bytes
    assert twice.wer_above_paper < once.wer_above_paper
    bare = run(PlanSettings("large-v2", 100.0, encoder_states="none", **FAST), NullConsole())
    assert bare.train_seconds > 3 * once.train_seconds and bare.disk_bytes < 0.1 * once.disk_bytes
    deep = run(PlanSettings("large-v2", 100.0, decoder_layers=8, **FAST), NullConsole())
    assert deep.train_seconds > 2 * once.train_seconds
    assert run(PlanSettings("base", 1.0), NullConsole()).label_seconds > 0  # measured here


def test_invalid_settings() -> None:
    with pytest.raises(SettingsError, match="decoder_layers must be 1 to 6, got 8; hours must be above 0, got 0"):
        run(PlanSettings("base", 0.0, decoder_layers=8), NullConsole())
    with pytest.raises(SettingsError, match="size of unknown-model is unknown"):
        run(PlanSettings("unknown-model", 1.0), NullConsole())
