"""compare: significant changes between two evaluations, and the exit status."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from whisperstill.cli.main import main
from whisperstill.console import NullConsole
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.eval_results import DatasetResult, EvalResults, HallucinationMetrics, SpeedResult
from whisperstill.records.serialization import from_dict
from whisperstill.stages.compare import CompareSettings, run

NONE = HallucinationMetrics(0, 0, 0, 0, 0.0, 1.0, 1.0, 0, 0)
RANDOM = np.random.default_rng(0)
ERRORS = tuple(int(count) for count in RANDOM.integers(0, 3, size=200))


def result(errors: tuple[int, ...], dataset: str = "read", model: str = "student") -> DatasetResult:
    words = (10,) * len(errors)
    wer = 100 * sum(errors) / sum(words)
    return DatasetResult(
        "short_form", model, dataset, "short", wer, wer, wer, wer, wer, wer, wer, sum(errors), 0, 0, sum(words),
        len(errors), 1.0, 1.0, NONE, utterance_errors=errors, utterance_words=words,
    )  # fmt: skip


def write(path: Path, *results: DatasetResult, latency: float = 100.0) -> Path:
    eval_results = EvalResults(
        "f", {}, results=results, speeds=(SpeedResult("student", 1, 1, 1, latency, 0.1, 24, 10, 100),)
    )
    path.write_text(json.dumps(asdict(eval_results)))
    return path


def worsen(errors: tuple[int, ...], every: int) -> tuple[int, ...]:
    return tuple(item_errors + (index % every == 0) for index, item_errors in enumerate(errors))


def test_results_survive_json() -> None:
    eval_results = EvalResults("f", {"torch": "2"}, results=(result(ERRORS),))
    plain = json.loads(json.dumps(asdict(eval_results)))
    assert from_dict(EvalResults, plain) == eval_results
    assert from_dict(EvalResults, plain | {"a key of a later version": 1}) == eval_results
    with pytest.raises(ValueError, match="needs name"):
        from_dict(EvalResults, {})


def test_outcomes_worse_better_same(tmp_path: Path) -> None:
    before = write(
        tmp_path / "a.json", result(ERRORS, "one"), result(worsen(ERRORS, 2), "two"), result(ERRORS, "three")
    )
    after = write(
        tmp_path / "b.json",
        result(worsen(ERRORS, 2), "one"),
        result(ERRORS, "two"),
        result(worsen(ERRORS, 199), "three"),
    )
    report = run(CompareSettings((before, after), resamples=2000), NullConsole())
    outcomes = {change.metric: change.outcome for change in report.changes}
    assert outcomes["WER on one"] == "worse" and outcomes["WER on two"] == "better"
    assert outcomes["WER on three"] == "same"  # one more error in 200 utterances
    assert (report.worse, report.better, report.exit_code) == (1, 1, 1)
    assert run(CompareSettings((before, before), resamples=500), NullConsole()).exit_code == 0


def test_holm_keeps_false_alarms_rare(tmp_path: Path) -> None:
    """Equal systems on 40 datasets: some p-values are below 5 %, none is significant after Holm's correction."""

    def random_errors() -> tuple[int, ...]:
        return tuple(int(count) for count in RANDOM.integers(0, 3, size=60))

    before = write(tmp_path / "a.json", *(result(random_errors(), f"s{index}") for index in range(40)))
    after = write(tmp_path / "b.json", *(result(random_errors(), f"s{index}") for index in range(40)))
    report = run(CompareSettings((before, after), resamples=2000), NullConsole())
    assert report.worse + report.better == 0
    assert any(change.p < 0.05 for change in report.changes if change.metric.startswith("WER"))


def test_resamples_grow_with_the_number_of_comparisons(tmp_path: Path) -> None:
    """A clear regression is significant among a hundred unchanged results."""
    results = [result(ERRORS, f"s{index}") for index in range(100)]
    before = write(tmp_path / "a.json", *results, result(ERRORS, "worse"))
    after = write(tmp_path / "b.json", *results, result(worsen(ERRORS, 2), "worse"))
    report = run(CompareSettings((before, after), resamples=100), NullConsole())
    assert [change.metric for change in report.changes if change.outcome == "worse"] == ["WER on worse"]


def test_three_recordings_are_not_significant(tmp_path: Path) -> None:
    """Three recordings that all got worse: probability 1/4 by chance."""
    before = write(tmp_path / "a.json", result((3, 4, 5)))
    after = write(tmp_path / "b.json", result((4, 5, 6)))
    (change,) = [
        change for change in run(CompareSettings((before, after)), NullConsole()).changes if "WER" in change.metric
    ]
    assert (change.outcome, change.p) == ("same", 0.25)


def test_an_increase_within_the_tolerance_is_not_worse(tmp_path: Path) -> None:
    before, after = (
        write(tmp_path / "a.json", result(ERRORS)),
        write(tmp_path / "b.json", result(worsen(ERRORS, 2))),
    )
    assert run(CompareSettings((before, after), tolerance=4.9, resamples=500), NullConsole()).exit_code == 1
    assert run(CompareSettings((before, after), tolerance=5.1, resamples=500), NullConsole()).exit_code == 0


def test_other_utterances_are_not_compared(tmp_path: Path) -> None:
    before, after = (
        write(tmp_path / "a.json", result(ERRORS)),
        write(tmp_path / "b.json", result(worsen(ERRORS, 2)[1:])),
    )
    report = run(CompareSettings((before, after), resamples=500), NullConsole())
    assert [change.outcome for change in report.changes if "WER" in change.metric] == ["not comparable"]
    assert report.not_comparable == 1
    for path in (before, after):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"speeds": []}))
    with pytest.raises(SettingsError, match="used other utterances"):
        run(CompareSettings((before, after), resamples=500), NullConsole())


def test_speed_is_compared_with_max_slower_only(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", result(ERRORS))
    after = write(tmp_path / "b.json", result(ERRORS), latency=130.0)
    assert run(CompareSettings((before, after), resamples=500), NullConsole()).exit_code == 0
    assert run(CompareSettings((before, after), resamples=500, max_slower=20), NullConsole()).exit_code == 1
    assert run(CompareSettings((before, after), resamples=500, max_slower=40), NullConsole()).exit_code == 0


def test_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (
        write(tmp_path / "a.json", result(ERRORS)),
        write(tmp_path / "b.json", result(worsen(ERRORS, 2))),
    )
    assert main(["compare", str(before), str(after), "--resamples", "500"]) == 1
    assert "worse" in capsys.readouterr().out
    assert main(["compare", str(after), str(before), "--resamples", "500"]) == 0


def test_results_that_failed_later_set_the_exit_status(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", result(ERRORS, "one"), result(ERRORS, "two"))
    after = write(tmp_path / "b.json", result(ERRORS, "one"))
    left_out = run(CompareSettings((before, after), resamples=500), NullConsole())
    assert (left_out.exit_code, left_out.failed, len(left_out.only_before)) == (0, 0, 1)
    exit_codes = {"dataset two": 1, "model student": 1, "short form": 1, "student on two short": 1}
    exit_codes |= {"dataset one": 0, "model teacher": 0, "student on twofold short": 0, "an utterance": 0, "noise": 0}
    for subject, code in exit_codes.items():
        content = json.loads(after.read_text()) | {"failures": [{"subject": subject, "reason": "it is gone"}]}
        after.write_text(json.dumps(content))
        failed = run(CompareSettings((before, after), resamples=500), NullConsole())
        assert (failed.exit_code, failed.failed) == (code, code), subject


def test_unreadable_or_unrelated_results_are_errors(tmp_path: Path) -> None:
    good = write(tmp_path / "a.json", result(ERRORS))
    with pytest.raises(NotFoundError, match="whisperstill evaluate"):
        run(CompareSettings((good, tmp_path / "none.json")), NullConsole())
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SettingsError, match=r"is no results\.json"):
        run(CompareSettings((good, tmp_path / "list.json")), NullConsole())
    older = json.loads(good.read_text()) | {"format": 1}
    (tmp_path / "older.json").write_text(json.dumps(older))
    with pytest.raises(SettingsError, match=r"older\.json was written before 0\.1\.0 \(format 1, expected 2\)"):
        run(CompareSettings((good, tmp_path / "older.json")), NullConsole())
    newer = json.loads(good.read_text()) | {"format": 99}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    with pytest.raises(SettingsError, match="newer whisperstill"):
        run(CompareSettings((good, tmp_path / "newer.json")), NullConsole())
    other = write(tmp_path / "other.json", replace(result(ERRORS), model="someone"))
    content = json.loads(other.read_text()) | {"speeds": []}
    other.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match="no result in common"):
        run(CompareSettings((good, other)), NullConsole())


def non_speech_result(errors: tuple[int, ...]) -> DatasetResult:
    """Result on clips without speech, with the hallucinated words of each."""
    return replace(
        result(errors, "street"), measurement="non_speech", words=0, wer=0.0, utterance_words=(0,) * len(errors)
    )


def test_hallucinated_words_are_compared(tmp_path: Path) -> None:
    before, after = (
        write(tmp_path / "a.json", non_speech_result((0,) * 40)),
        write(tmp_path / "b.json", non_speech_result((0, 0, 0, 5) * 10)),
    )
    report = run(CompareSettings((before, after)), NullConsole())
    (change,) = [change for change in report.changes if "hallucinated" in change.metric]
    assert (change.before, change.after, change.outcome) == (0.0, 125.0, "worse")
    assert report.exit_code == 1
    unchanged = run(CompareSettings((before, before)), NullConsole())
    assert (unchanged.worse, unchanged.not_comparable) == (0, 0)
    few = write(tmp_path / "c.json", non_speech_result((0, 0, 0, 1)))
    nearly = write(tmp_path / "d.json", non_speech_result((0, 0, 0, 0)))
    assert run(CompareSettings((nearly, few)), NullConsole()).exit_code == 0  # one clip is not significant
