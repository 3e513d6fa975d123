"""WER threshold sweep: how much of a label set remains for each value of the threshold λ.

The paper chooses λ with such a table (of 21 770 h, λ = 10 drops 45 %). The same utterance in two packing variants
counts twice, as in training. All other rules stay as set; utterances dropped by anything but a rule (predicted WER)
stay dropped at every threshold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whisperstill.label.filter_rules import RuleSettings, active_rules, decide
from whisperstill.label.filtering import LabelCounts
from whisperstill.plotting import new_figure, save_png
from whisperstill.records.pseudo_label import FilteredLabel
from whisperstill.text.markdown import markdown_table

WER_LIMITS_PERCENT = (100.0, 80.0, 40.0, 20.0, 15.0, 10.0, 5.0)
"""The paper's thresholds."""
TABLE_COLUMNS = (
    "λ, WER % at most",
    "utterances",
    "hours kept",
    "% of hours dropped",
    "words kept",
    "WER % of the kept",
)


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """What remains at one threshold."""

    max_wer: float | None
    """Threshold in per cent; None: no threshold."""
    utterances: int
    hours: float
    hours_dropped: float
    """Per cent of all hours."""
    words: int
    """Words of the remaining references, or of the label text where there is no reference."""
    wer: float | None
    """Word error rate of the remaining labels against their references, per cent; None without references."""

    @property
    def threshold_label(self) -> str:
        """The threshold as text."""
        return "none" if self.max_wer is None else f"{self.max_wer:g}"


class ThresholdSweep:
    """Totals for all thresholds at once, in one pass over the labels."""

    def __init__(self, rules: RuleSettings, limits: Sequence[float] = WER_LIMITS_PERCENT) -> None:
        self.rules = rules
        self._total = LabelCounts()
        self._remaining = {limit: LabelCounts() for limit in (None, *sorted(set(limits), reverse=True))}

    def add(self, filtered: FilteredLabel) -> None:
        """Count the utterances of a window at every threshold."""
        rule_names = {"", *(name for name, _ in active_rules())}
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
            self._total.add(quality, filtered.label.language)
            for limit, counts in self._remaining.items():
                if decision.rule in rule_names and decide(quality, replace(self.rules, max_wer=limit)).keep:
                    counts.add(quality, filtered.label.language)

    def points(self) -> list[ThresholdPoint]:
        """One point per threshold, from none to the strictest."""
        seconds = self._total.seconds
        return [
            ThresholdPoint(
                max_wer=limit,
                utterances=counts.utterances,
                hours=counts.hours,
                hours_dropped=100 * (1 - counts.seconds / seconds) if seconds else 0.0,
                words=counts.words,
                wer=counts.wer,
            )
            for limit, counts in self._remaining.items()
        ]


def table_rows(points: Iterable[ThresholdPoint]) -> list[list[str]]:
    """Rows of a table with `TABLE_COLUMNS`."""
    return [
        [
            point.threshold_label,
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
    return markdown_table(TABLE_COLUMNS, table_rows(points), text_columns=()) + "\n"


def plot_threshold_sweep(points: Sequence[ThresholdPoint], path: Path) -> None:
    """Plot hours kept and WER of the kept labels against λ, as PNG. Raises `MissingExtraError` without matplotlib."""
    positions = range(len(points))
    figure = new_figure(6.4, 3.8, "a picture of the sweep")
    hours_axis = figure.add_subplot()
    hours_axis.bar(positions, [point.hours for point in points], color="#9ecae1")
    hours_axis.set_xticks(positions, [point.threshold_label for point in points])
    hours_axis.set_xlabel("λ: maximum WER of a label against its reference, %")
    hours_axis.set_ylabel("hours kept", color="#3182bd")
    wer_axis = hours_axis.twinx()
    with_wer = [(position, point.wer) for position, point in enumerate(points) if point.wer is not None]
    wer_axis.plot([position for position, _ in with_wer], [wer for _, wer in with_wer], color="#a63603", marker="o")
    wer_axis.set_ylim(bottom=0)
    wer_axis.set_ylabel("WER of the kept labels, %", color="#a63603")
    save_png(figure, path)
