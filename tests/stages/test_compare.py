"""Two findings: what changed is told from chance, and the exit status says so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whisperstill.cli.main import main
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.eval_results import DatasetResult, EvalResults, HallucinationMetrics, SpeedResult
from whisperstill.records.serialization import from_dict, to_dict
from whisperstill.stages.compare import CompareSettings, run
from whisperstill.stages.console import NullConsole

NONE = HallucinationMetrics(0, 0, 0, 0, 0.0, 1.0, 1.0, 0, 0)
RANDOM = np.random.default_rng(0)
ERRORS = tuple(int(one) for one in RANDOM.integers(0, 3, size=200))


def cell(errors: tuple[int, ...], set: str = "read", model: str = "student") -> DatasetResult:
    words = (10,) * len(errors)
    wer = 100 * sum(errors) / sum(words)
    return DatasetResult(
        "short_form", model, set, "short", wer, wer, wer, wer, wer, wer, wer, sum(errors), 0, 0, sum(words),
        len(errors), 1.0, 1.0, NONE, utterance_errors=errors, utterance_words=words,
    )  # fmt: skip


def write(path: Path, *cells: DatasetResult, latency: float = 100.0) -> Path:
    findings = EvalResults("f", {}, results=cells, speeds=(SpeedResult("student", 1, 1, 1, latency, 0.1, 24, 10, 100),))
    path.write_text(json.dumps(to_dict(findings)))
    return path


def more(errors: tuple[int, ...], every: int) -> tuple[int, ...]:
    return tuple(one + (at % every == 0) for at, one in enumerate(errors))


def test_findings_come_back_as_they_were() -> None:
    findings = EvalResults("f", {"torch": "2"}, results=(cell(ERRORS),))
    plain = json.loads(json.dumps(to_dict(findings)))
    assert from_dict(EvalResults, plain) == findings
    assert from_dict(EvalResults, plain | {"of tomorrow": 1}) == findings
    with pytest.raises(ValueError, match="needs name"):
        from_dict(EvalResults, {})


def test_worse_better_and_the_same(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", cell(ERRORS, "one"), cell(more(ERRORS, 2), "two"), cell(ERRORS, "three"))
    after = write(
        tmp_path / "b.json", cell(more(ERRORS, 2), "one"), cell(ERRORS, "two"), cell(more(ERRORS, 199), "three")
    )
    report = run(CompareSettings((before, after), resamples=2000), NullConsole())
    verdicts = {one.metric: one.outcome for one in report.changes}
    assert verdicts["WER on one"] == "worse" and verdicts["WER on two"] == "better"
    assert verdicts["WER on three"] == "same"  # one more error in 200 utterances
    assert (report.worse, report.better, report.exit_code) == (1, 1, 1)
    assert run(CompareSettings((before, before), resamples=500), NullConsole()).exit_code == 0


def test_many_comparisons_do_not_make_a_finding(tmp_path: Path) -> None:
    """Listeners of equal quality on 40 sets: Holm keeps the chance of any false alarm at 5 %; without it there are."""

    def drawn() -> tuple[int, ...]:
        return tuple(int(one) for one in RANDOM.integers(0, 3, size=60))

    before = write(tmp_path / "a.json", *(cell(drawn(), f"s{at}") for at in range(40)))
    after = write(tmp_path / "b.json", *(cell(drawn(), f"s{at}") for at in range(40)))
    report = run(CompareSettings((before, after), resamples=2000), NullConsole())
    assert report.worse + report.better == 0
    assert any(one.p < 0.05 for one in report.changes if one.metric.startswith("WER"))


def test_so_many_comparisons_that_more_draws_are_needed(tmp_path: Path) -> None:
    """What is surely worse is found among a hundred others that stay."""
    same = [cell(ERRORS, f"s{at}") for at in range(100)]
    before = write(tmp_path / "a.json", *same, cell(ERRORS, "worse"))
    after = write(tmp_path / "b.json", *same, cell(more(ERRORS, 2), "worse"))
    report = run(CompareSettings((before, after), resamples=100), NullConsole())
    assert [one.metric for one in report.changes if one.outcome == "worse"] == ["WER on worse"]


def test_few_recordings_tell_nothing(tmp_path: Path) -> None:
    """Three that all got worse, as in a set of long recordings: one in four times by chance."""
    before, after = write(tmp_path / "a.json", cell((3, 4, 5))), write(tmp_path / "b.json", cell((4, 5, 6)))
    (change,) = [one for one in run(CompareSettings((before, after)), NullConsole()).changes if "WER" in one.metric]
    assert (change.outcome, change.p) == ("same", 0.25)


def test_a_rise_within_the_tolerance_is_not_worse(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a.json", cell(ERRORS)), write(tmp_path / "b.json", cell(more(ERRORS, 2)))
    assert run(CompareSettings((before, after), tolerance=4.9, resamples=500), NullConsole()).exit_code == 1
    assert run(CompareSettings((before, after), tolerance=5.1, resamples=500), NullConsole()).exit_code == 0


def test_other_utterances_are_not_compared(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a.json", cell(ERRORS)), write(tmp_path / "b.json", cell(more(ERRORS, 2)[1:]))
    report = run(CompareSettings((before, after), resamples=500), NullConsole())
    assert [one.outcome for one in report.changes if "WER" in one.metric] == ["not comparable"]
    assert report.not_comparable == 1
    for path in (before, after):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"speeds": []}))
    with pytest.raises(SettingsError, match="measured on other utterances"):  # else a broken check would pass
        run(CompareSettings((before, after), resamples=500), NullConsole())


def test_times_decide_only_when_asked(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", cell(ERRORS))
    after = write(tmp_path / "b.json", cell(ERRORS), latency=130.0)
    assert run(CompareSettings((before, after), resamples=500), NullConsole()).exit_code == 0
    assert run(CompareSettings((before, after), resamples=500, max_slower=20), NullConsole()).exit_code == 1
    assert run(CompareSettings((before, after), resamples=500, max_slower=40), NullConsole()).exit_code == 0


def test_the_exit_status_is_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = write(tmp_path / "a.json", cell(ERRORS)), write(tmp_path / "b.json", cell(more(ERRORS, 2)))
    assert main(["compare", str(before), str(after), "--resamples", "500"]) == 1
    assert "worse" in capsys.readouterr().out
    assert main(["compare", str(after), str(before), "--resamples", "500"]) == 0


def test_what_failed_in_the_second_is_a_failure(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", cell(ERRORS, "one"), cell(ERRORS, "two"))
    after = write(tmp_path / "b.json", cell(ERRORS, "one"))
    left_out = run(CompareSettings((before, after), resamples=500), NullConsole())
    assert (left_out.exit_code, left_out.failed, len(left_out.only_before)) == (0, 0, 1)
    whats = {"dataset two": 1, "model student": 1, "short form": 1, "student on two short": 1}
    whats |= {"dataset one": 0, "model teacher": 0, "student on twofold short": 0, "an utterance": 0, "noise": 0}
    for what, code in whats.items():
        content = json.loads(after.read_text()) | {"failures": [{"subject": what, "reason": "it is gone"}]}
        after.write_text(json.dumps(content))
        failed = run(CompareSettings((before, after), resamples=500), NullConsole())
        assert (failed.exit_code, failed.failed) == (code, code), what


def test_what_is_no_findings(tmp_path: Path) -> None:
    good = write(tmp_path / "a.json", cell(ERRORS))
    with pytest.raises(NotFoundError, match="evaluate --suite"):
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
    other = write(tmp_path / "other.json", replace(cell(ERRORS), model="someone"))
    content = json.loads(other.read_text()) | {"speeds": []}
    other.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match="no result in common"):
        run(CompareSettings((good, other)), NullConsole())


def silent(errors: tuple[int, ...]) -> DatasetResult:
    """Clips in which nobody speaks, with the words made up in each."""
    return replace(
        cell(errors, "street"), measurement="non_speech", words=0, wer=0.0, utterance_words=(0,) * len(errors)
    )


def test_words_made_up_are_compared(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a.json", silent((0,) * 40)), write(tmp_path / "b.json", silent((0, 0, 0, 5) * 10))
    report = run(CompareSettings((before, after)), NullConsole())
    (change,) = [one for one in report.changes if "made up" in one.metric]
    assert (change.before, change.after, change.outcome) == (0.0, 125.0, "worse")
    assert report.exit_code == 1
    same = run(CompareSettings((before, before)), NullConsole())
    assert (same.worse, same.not_comparable) == (0, 0)
    few = write(tmp_path / "c.json", silent((0, 0, 0, 1)))
    nearly = write(tmp_path / "d.json", silent((0, 0, 0, 0)))
    assert run(CompareSettings((nearly, few)), NullConsole()).exit_code == 0  # one clip tells nothing
