"""Plot of a WER threshold sweep, with matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from whisperstill.label.threshold_sweep import ThresholdPoint
from whisperstill.plotting import new_figure, save_png


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
