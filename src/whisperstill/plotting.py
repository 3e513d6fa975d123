"""What all charts share: a matplotlib figure without a window, PNG files, and logarithmic axes."""

from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill.atomic_io import atomic_write_path
from whisperstill.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width_in: float, height_in: float, purpose: str) -> "Figure":
    """An empty figure. Raises `MissingExtraError`, which names the purpose, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(purpose, "plots") from error
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: "Figure", path: Path) -> None:
    """Write the figure. The same figure gives the same bytes."""
    with atomic_write_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png", metadata={"Software": None})


def use_log_scale(axes: "Axes", axis_name: str) -> None:
    """Make the `x` or `y` axis logarithmic, with plain numbers (0.5, 1, 2, 5, 10)."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    getattr(axes, f"set_{axis_name}scale")("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())
