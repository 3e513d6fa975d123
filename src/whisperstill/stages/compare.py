"""compare: two findings side by side; what got better or worse, and whether that is more than chance."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.edits import EditCounts
from whisperstill.records.findings import FORMAT, Cell, Findings
from whisperstill.records.plain import from_plain
from whisperstill.stages.console import Console

WORSE = 1
"""Exit status when something got worse, or failed that was measured before."""
COLUMNS = ("what", "model", "before", "after", "difference", "verdict")


@dataclass(frozen=True)
class CompareSettings:
    """Two findings of `evaluate --suite`; exit status 1 when the second is worse, or failed to measure something."""

    findings: tuple[Path, Path]
    """findings.json before and after."""
    alpha: float = 0.05
    """Chance of calling anything worse or better that is not, over all comparisons together (Holm 1979)."""
    tolerance: float = 0.0
    """A rate that rises by no more is not called worse: per cent points of word errors, made-up words in 100 clips."""
    max_slower: float | None = None
    """Per cent by which latency and memory may rise before that counts as worse; default: times do not decide."""
    resamples: int = 10_000
    """Draws of the paired bootstrap; more are taken where so many comparisons could not be told from chance by them."""
    seed: int = 0
    """Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after."""

    what: str
    model: str
    before: float
    after: float
    low: float
    """95 % interval of the difference."""
    high: float
    p: float
    verdict: str
    """`better`, `worse`, `same` (not more than chance), `not comparable` (other utterances)."""


@dataclass(frozen=True, slots=True)
class CompareReport:
    """What changed."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    """What the first alone measured."""
    only_after: tuple[str, ...]
    worse: int
    better: int
    not_comparable: int
    """Cells of the same name, but of other utterances."""
    failed: int = 0
    """Cells that the first measured and that failed in the second."""

    @property
    def exit_code(self) -> int:
        """1 when something got worse, or failed."""
        return WORSE if self.worse or self.failed else 0


def run(settings: CompareSettings, console: Console) -> CompareReport:
    """Pair the cells of both findings, model by model of the same name, and test each difference.

    Raises `NotFoundError` or `SettingsError` for what is no findings.json, and when the two have nothing in common, or
    no cell of the same utterances.
    """
    problems = []
    if not 0 < settings.alpha < 1:
        problems.append(f"alpha must be between 0 and 1, got {settings.alpha:g}")
    if settings.resamples < 100:
        problems.append(f"resamples must be at least 100, got {settings.resamples}")
    if settings.tolerance < 0 or (settings.max_slower is not None and settings.max_slower < 0):
        problems.append("tolerance and max_slower must be 0 or more")
    if problems:
        raise SettingsError("; ".join(problems))
    before, after = map(read_findings, settings.findings)
    ours, theirs = _cells(before), _cells(after)
    both = [key for key in ours if key in theirs]
    resamples = max(settings.resamples, ceil(4 * len(both) / settings.alpha))  # p below alpha / n has to be possible
    changes = _decided([_paired(ours[key], theirs[key], settings.seed, resamples) for key in both], settings)
    changes += _speeds(before, after, settings)
    if not changes:
        raise SettingsError("the two findings have no cell in common: models and sets are matched by their names")
    lost = [key for key in ours if key not in theirs and _failure(ours[key], after)]
    report = CompareReport(
        tuple(changes),
        tuple(_name(ours[key]) + f" by {ours[key].model}" for key in ours if key not in theirs),
        tuple(_name(theirs[key]) + f" by {theirs[key].model}" for key in theirs if key not in ours),
        worse=sum(one.verdict == "worse" for one in changes),
        better=sum(one.verdict == "better" for one in changes),
        not_comparable=sum(one.verdict == "not comparable" for one in changes),
        failed=len(lost),
    )
    if report.not_comparable == len(changes):
        raise SettingsError("the two findings were measured on other utterances: evaluate both on the same sets")
    console.table(f"{before.name}: before and after", COLUMNS, [_row(one) for one in changes])
    for where, names in (("before", report.only_before), ("after", report.only_after)):
        if names:
            console.info(f"measured {where} alone: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    if report.not_comparable:
        console.warn(f"{report.not_comparable} of {len(changes)} cannot be compared: they are of other utterances")
    for key in lost[:5]:
        console.warn(
            f"{_name(ours[key])} by {ours[key].model} was measured before and failed: {_failure(ours[key], after)}"
        )
    same = len(changes) - report.worse - report.better - report.not_comparable
    console.info(f"{report.better} better, {report.worse} worse, {same} no different as far as can be told")
    return report


def read_findings(path: Path) -> Findings:
    """A findings.json, or the one in a folder. Raises `NotFoundError` without it, `SettingsError` if it is none."""
    place = path / "findings.json" if path.is_dir() else path
    if not place.is_file():
        raise NotFoundError(f"expected findings.json, as `whisperstill evaluate --suite` writes it, found no {place}")
    try:
        content = json.loads(place.read_text("utf-8"))
        if content["format"] > FORMAT:
            raise SettingsError(f"{place} was written by a newer whisperstill (format {content['format']})")
        return from_plain(Findings, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{place} is no findings.json of `whisperstill evaluate --suite`: {error}") from error


def _cells(findings: Findings) -> dict[tuple[Any, ...], Cell]:
    return {
        (one.measurement, one.model, one.set, one.decoding, one.chunk_length, one.condition): one
        for one in findings.cells
    }


def _failure(cell: Cell, findings: Findings) -> str | None:
    """Why a cell is missing from findings: it failed, or its model, its set or the whole measurement; None where it was
    not asked for."""
    parts = {f"model {cell.model}", f"set {cell.set}", cell.measurement.replace("_", " ")}
    for one in findings.failures:
        if one.what in parts or one.what.startswith(f"{cell.model} on {cell.set} "):
            return one.reason
    return None


def _name(cell: Cell) -> str:
    parts = [cell.set, "" if cell.decoding == "short" else cell.decoding, cell.condition]
    length = f"{cell.chunk_length:g} s" if cell.chunk_length else ""
    return " ".join(filter(None, [*parts, length]))


def _paired(before: Cell, after: Cell, seed: int, resamples: int) -> Change:
    from whisperstill.evaluate.intervals import paired_bootstrap

    what = f"WER on {_name(after)}" if after.words else f"words made up in 100 clips of {_name(after)}"
    was, now = _rate(before), _rate(after)
    if before.utterance_words != after.utterance_words or not before.utterance_words:
        return Change(what, after.model, was, now, 0.0, 0.0, 1.0, "not comparable")
    found = paired_bootstrap(_counts(after), _counts(before), seed=seed, resamples=resamples)
    identical = before.utterance_errors == after.utterance_errors
    return Change(
        what,
        after.model,
        was,
        now,
        100 * found.low,
        100 * found.high,
        1.0 if identical else found.p,
        "",
    )


def _rate(cell: Cell) -> float:
    if cell.words:
        return cell.wer
    return 100 * sum(cell.utterance_errors) / len(cell.utterance_errors) if cell.utterance_errors else 0.0


def _counts(cell: Cell) -> list[EditCounts]:
    """Errors and lengths are all that a rate needs: all errors are taken as insertions. Where nobody speaks a clip
    counts as one word, so that the rate is words made up per clip."""
    return [
        EditCounts(words if cell.words else 1, 0, 0, errors)
        for words, errors in zip(cell.utterance_words, cell.utterance_errors, strict=True)
    ]


def _decided(changes: Sequence[Change], settings: CompareSettings) -> list[Change]:
    """Verdicts by Holm's step-down: the smallest p against alpha / m, the next against alpha / (m - 1) ..."""
    from dataclasses import replace

    open_ = sorted((at for at, one in enumerate(changes) if not one.verdict), key=lambda at: changes[at].p)
    decided = list(changes)
    still = True
    for rank, at in enumerate(open_):
        one = changes[at]
        still = still and one.p <= settings.alpha / (len(open_) - rank)
        rise = one.after - one.before
        verdict = "same"
        if still and rise < 0:
            verdict = "better"
        elif still and rise > settings.tolerance:
            verdict = "worse"
        decided[at] = replace(one, verdict=verdict)
    return decided


def _speeds(before: Findings, after: Findings, settings: CompareSettings) -> list[Change]:
    earlier = {(one.model, one.batch_size): one for one in before.speeds}
    changes = []
    for one in after.speeds:
        old = earlier.get((one.model, one.batch_size))
        if old is None:
            continue
        for name, was, now in (
            (f"latency at batch {one.batch_size}, ms", old.latency_ms, one.latency_ms),
            (f"memory at batch {one.batch_size}, MiB", old.peak_mib, one.peak_mib),
        ):
            if not was or not now:
                continue
            verdict = "same"
            if settings.max_slower is not None and now > was * (1 + settings.max_slower / 100):
                verdict = "worse"
            changes.append(Change(name, one.model, was, now, 0.0, 0.0, 1.0, verdict))
    return changes


def _row(one: Change) -> list[str]:
    difference = f"{one.after - one.before:+.2f}"
    if one.low or one.high:
        difference += f" ({one.low:+.2f} to {one.high:+.2f}, p {one.p:.3f})"
    return [one.what, one.model, f"{one.before:.2f}", f"{one.after:.2f}", difference, one.verdict]
