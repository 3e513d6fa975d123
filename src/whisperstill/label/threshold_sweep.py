"""What is left of a label set for a range of limits on the word error rate.

The paper chooses its limit λ so (its table: of 21 770 h, λ = 10 drops 45 %). Counted over utterances of windows: the
same utterance in two packings counts twice, as it does in training. All other rules stay as they are set, and what
something else than the rules left out (a predicted error rate) stays out under every limit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from whisperstill.label.counts import LabelCounts
from whisperstill.label.filter_rules import RuleSettings, active_rules, decide
from whisperstill.records.pseudo_label import FilteredLabel

WER_LIMITS_PERCENT = (100.0, 80.0, 40.0, 20.0, 15.0, 10.0, 5.0)
"""The paper's."""


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
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
class ThresholdSweep:
    """Tallies for all limits at once, in one pass over the labels."""

    settings: RuleSettings
    limits: Sequence[float] = WER_LIMITS_PERCENT
    total: LabelCounts = field(default_factory=LabelCounts)
    _remaining: dict[float | None, LabelCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._remaining = {limit: LabelCounts() for limit in (None, *sorted(set(self.limits), reverse=True))}

    def add(self, filtered: FilteredLabel) -> None:
        """Count the utterances of a window under every limit."""
        rule_names = {"", *(name for name, _ in active_rules())}
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
            self.total.add(quality, filtered.label.language)
            for limit, counts in self._remaining.items():
                if decision.rule in rule_names and decide(quality, replace(self.settings, max_wer=limit)).keep:
                    counts.add(quality, filtered.label.language)

    def points(self) -> list[ThresholdPoint]:
        """One point per limit, from no limit to the tightest."""
        seconds = self.total.seconds
        return [
            ThresholdPoint(
                max_wer=limit,
                utterances=counts.utterances,
                hours=counts.seconds / 3600,
                hours_dropped=100 * (1 - counts.seconds / seconds) if seconds else 0.0,
                words=counts.words,
                wer=counts.wer,
            )
            for limit, counts in self._remaining.items()
        ]


TABLE_COLUMNS = (
    "λ, WER % at most",
    "utterances",
    "hours kept",
    "% of hours dropped",
    "words kept",
    "WER % of the kept",
)


def table_rows(points: Iterable[ThresholdPoint]) -> list[list[str]]:
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


def to_markdown(points: Iterable[ThresholdPoint]) -> str:
    """The table in Markdown."""
    lines = [TABLE_COLUMNS, ["---:"] * len(TABLE_COLUMNS), *table_rows(points)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
