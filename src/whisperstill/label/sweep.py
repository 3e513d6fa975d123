"""What is left of a label set for a range of limits on the word error rate.

The paper chooses its limit λ so (its table: of 21 770 h, λ = 10 drops 45 %). Counted over utterances of windows: the
same utterance in two packings counts twice, as it does in training. All other rules stay as they are set, and what
something else than the rules left out (a predicted error rate) stays out under every limit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from whisperstill.label.rules import RULES, RuleSettings, verdict
from whisperstill.label.tally import Tally
from whisperstill.records.labelled import Judged

LIMITS = (100.0, 80.0, 40.0, 20.0, 15.0, 10.0, 5.0)
"""The paper's."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What is left under one limit."""

    max_wer: float | None
    """The limit in per cent; None: no limit."""
    utterances: int
    hours: float
    hours_dropped: float
    """Per cent of all hours."""
    words: int
    """Words of the references that are left, of the transcript where there is no reference."""
    wer: float | None
    """Word errors of the labels that are left over the words of their references, per cent; None without any."""


@dataclass(slots=True)
class Sweep:
    """Tallies for all limits at once, in one pass over the labels."""

    settings: RuleSettings
    limits: Sequence[float] = LIMITS
    everything: Tally = field(default_factory=Tally)
    _left: dict[float | None, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left = {limit: Tally() for limit in (None, *sorted(set(self.limits), reverse=True))}

    def add(self, judged: Judged) -> None:
        """Count the utterances of a window under every limit."""
        by_rules = {"", *(name for name, _ in RULES)}
        for seen, found in zip(judged.labelled.evidence, judged.verdicts, strict=True):
            self.everything.add(seen, judged.labelled.language)
            for limit, tally in self._left.items():
                if found.rule in by_rules and verdict(seen, replace(self.settings, max_wer=limit)).kept:
                    tally.add(seen, judged.labelled.language)

    def points(self) -> list[SweepPoint]:
        """One point per limit, from no limit to the tightest."""
        seconds = self.everything.seconds
        return [
            SweepPoint(
                max_wer=limit,
                utterances=tally.utterances,
                hours=tally.seconds / 3600,
                hours_dropped=100 * (1 - tally.seconds / seconds) if seconds else 0.0,
                words=tally.words,
                wer=tally.wer,
            )
            for limit, tally in self._left.items()
        ]


COLUMNS = ("λ, WER % at most", "utterances", "hours kept", "% of hours dropped", "words kept", "WER % of the kept")


def cells(points: Iterable[SweepPoint]) -> list[list[str]]:
    """Rows of a table with `COLUMNS`."""
    return [
        [
            "none" if point.max_wer is None else f"{point.max_wer:g}",
            str(point.utterances),
            f"{point.hours:.2f}",
            f"{point.hours_dropped:.1f}",
            str(point.words),
            "-" if point.wer is None else f"{point.wer:.1f}",
        ]
        for point in points
    ]


def markdown(points: Iterable[SweepPoint]) -> str:
    """The table in Markdown."""
    lines = [COLUMNS, ["---:"] * len(COLUMNS), *cells(points)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
