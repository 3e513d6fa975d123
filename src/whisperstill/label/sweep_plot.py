"""The picture of a sweep, with matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from whisperstill.errors import MissingExtraError
from whisperstill.files import whole
from whisperstill.label.sweep import SweepPoint


def plot(points: Sequence[SweepPoint], path: Path) -> None:
    """Draw hours kept and word error rate of the kept against λ, as PNG.

    Raises `MissingExtraError` without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a picture of the sweep", "plots") from error

    places = range(len(points))
    names = ["none" if point.max_wer is None else f"{point.max_wer:g}" for point in points]
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    hours = figure.add_subplot()
    hours.bar(places, [point.hours for point in points], color="#9ecae1")
    hours.set_xticks(places, names)
    hours.set_xlabel("λ: most word errors of a label against its reference, %")
    hours.set_ylabel("hours kept", color="#3182bd")
    rates = hours.twinx()
    known = [(place, point.wer) for place, point in zip(places, points, strict=True) if point.wer is not None]
    rates.plot([place for place, _ in known], [wer for _, wer in known], color="#a63603", marker="o")
    rates.set_ylim(bottom=0)
    rates.set_ylabel("WER of the kept labels, %", color="#a63603")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png", metadata={"Software": None})
