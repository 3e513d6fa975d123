"""The picture of a sweep, with matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from whisperstill.label.threshold_sweep import ThresholdPoint
from whisperstill.plotting import new_figure, save_png


def plot_threshold_sweep(points: Sequence[ThresholdPoint], path: Path) -> None:
    """Draw hours kept and word error rate of the kept against λ, as PNG.

    Raises `MissingExtraError` without matplotlib.
    """
    positions = range(len(points))
    labels = ["none" if point.max_wer is None else f"{point.max_wer:g}" for point in points]
    figure = new_figure(6.4, 3.8, "a picture of the sweep")
    hours_axis = figure.add_subplot()
    hours_axis.bar(positions, [point.hours for point in points], color="#9ecae1")
    hours_axis.set_xticks(positions, labels)
    hours_axis.set_xlabel("λ: most word errors of a label against its reference, %")
    hours_axis.set_ylabel("hours kept", color="#3182bd")
    wer_axis = hours_axis.twinx()
    known_points = [
        (position, point.wer) for position, point in zip(positions, points, strict=True) if point.wer is not None
    ]
    wer_axis.plot(
        [position for position, _ in known_points], [wer for _, wer in known_points], color="#a63603", marker="o"
    )
    wer_axis.set_ylim(bottom=0)
    wer_axis.set_ylabel("WER of the kept labels, %", color="#a63603")
    save_png(figure, path)
