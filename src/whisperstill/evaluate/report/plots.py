"""Charts as inline SVG, drawn by matplotlib.

Colours are CSS variables, so that a chart is legible on light and dark pages and in print; labels stay text in the
page's font. Matplotlib supports neither: it draws with placeholder colours, which `render_svg` replaces. The same chart
gives the same bytes.
"""

import html
import io
import math
import re
from typing import TYPE_CHECKING, Any

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.blocks import Chart
from whisperstill.plotting import use_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHART_WIDTH_PX, CHART_HEIGHT_PX, FONT_SIZE_PX = 460, 290, 12
MAX_LABEL_CHARS = 34
MAX_POINTS_WITH_MARKERS = 40
NUM_SERIES_STYLES = 8
"""Colours of the page; more series start again at the first."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")
_DASHES = ((), (6, 2), (6, 2, 1.5, 2), (1.5, 1.5), (10, 2), (4, 1.5), (3, 3), ())
_TEXT_COLOR, _MUTED_COLOR, _GRID_COLOR = "#00aa01", "#00aa02", "#00aa03"
_CSS_VARIABLES = {_TEXT_COLOR: "var(--ink)", _MUTED_COLOR: "var(--muted)", _GRID_COLOR: "var(--rule)"}
_CSS_VARIABLES |= {f"#0000{index + 1:02x}": f"var(--series-{index})" for index in range(NUM_SERIES_STYLES)}
_MATPLOTLIB_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": FONT_SIZE_PX,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), _MUTED_COLOR),
    "grid.color": _GRID_COLOR,
    "grid.linewidth": 1,
    "lines.markersize": 5.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _TEXT_COLOR),
}


def render_svg(chart: Chart) -> str:
    """The chart as an `<svg>` element. Raises `MissingExtraError` without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a chart", "report") from error

    height = CHART_HEIGHT_PX
    if chart.kind == "dots":
        height = 84 + len(chart.ticks) * (14 + 7 * len(chart.series))
    labels = [_truncate_label(series.name) for series in chart.series] if len(chart.series) > 1 else []
    labels += [chart.reference_label] if chart.reference_line is not None else []
    legend_columns = min(len(labels), int(CHART_WIDTH_PX // (46 + 7.2 * max(map(len, labels), default=0)))) or 1
    height += 18 * (-(-len(labels) // legend_columns) - 1)
    # The salt makes identifiers unique in the page
    with rc_context(_MATPLOTLIB_RC | {"svg.hashsalt": chart.id}):
        figure = Figure(figsize=(CHART_WIDTH_PX / 72, height / 72), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        _draw_series(axes, chart)
        _format_axes(axes, chart)
        if labels:
            figure.legend(loc="outside lower center", ncols=legend_columns, frameon=False, columnspacing=1.4)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    # Keep the drawing and the identifiers that it refers to: not metadata, style sheet, font and namespaces
    svg = buffer.getvalue()
    body = svg[svg.index("<g ") :].replace("xlink:href", "href")
    body = re.sub(r'<(\w+) id="(?![mp][0-9a-f]{10}")[^"]*"', r"<\1", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub("|".join(_CSS_VARIABLES), lambda match: _CSS_VARIABLES[match[0]], body)
    label = html.escape(f"{chart.title}. {chart.summary}")
    size = f'viewBox="0 0 {CHART_WIDTH_PX} {height}" width="{CHART_WIDTH_PX}" height="{height}"'
    return f'<svg class="chart" {size} role="img" aria-label="{label}">{body.rstrip()}'


def _draw_series(axes: "Axes", chart: Chart) -> None:
    for index, series in enumerate(chart.series):
        style = series.style_index % NUM_SERIES_STYLES
        color, points = f"#0000{style + 1:02x}", series.points
        x, y = [point.x for point in points], [point.y for point in points]
        spans = [point for point in points if math.isfinite(point.low + point.high)]
        span_x, low, high = [p.x for p in spans], [p.low for p in spans], [p.high for p in spans]
        marker = _MARKERS[style]
        if chart.kind == "dots":
            offset = (index - (len(chart.series) - 1) / 2) * 0.6 / len(chart.series)
            x, y = y, [row + offset for row in x]
            axes.hlines([row + offset for row in span_x], low, high, color=color, linewidth=1.6)
        elif chart.kind == "scatter":
            axes.vlines(span_x, low, high, color=color, linewidth=1.6)
        else:
            marker = marker if len(points) <= MAX_POINTS_WITH_MARKERS else ""
            low = [max(bound, min(y) / 3) for bound in low] if chart.log_y else low
            opacity = 0.16 if len(chart.series) < 4 else 0.09
            axes.fill_between(span_x, low, high, color=color, alpha=opacity, linewidth=0)
        label = _truncate_label(series.name) if len(chart.series) > 1 else ""
        width = 2 if chart.kind == "lines" else 0
        axes.plot(x, y, color=color, linewidth=width, dashes=_DASHES[style], marker=marker, label=label)


def _format_axes(axes: "Axes", chart: Chart) -> None:
    from matplotlib.ticker import NullLocator

    is_dots = chart.kind == "dots"
    positions, names = list(chart.ticks), list(map(_truncate_label, chart.ticks.values()))
    if chart.reference_line is not None:
        draw_line, label = axes.axvline if is_dots else axes.axhline, chart.reference_label
        draw_line(chart.reference_line, color=_MUTED_COLOR, linewidth=1.4, linestyle=(0, (2, 2)), label=label, zorder=0)
    if is_dots:
        axes.set_yticks(positions, names)
        axes.set_ylim(len(names) - 0.45, -0.55)
    for axis_name in ["y"] * chart.log_y + ["x"] * chart.log_x:
        use_log_scale(axes, axis_name)
    if positions and not is_dots:
        axes.set_xticks(positions, names)
        axes.xaxis.set_minor_locator(NullLocator())
    if chart.x_descending:
        axes.invert_xaxis()
    if chart.kind == "scatter" or (is_dots and axes.dataLim.x0 >= 0):
        axes.set_xlim(left=0)
    if chart.kind == "scatter" or (chart.kind == "lines" and chart.y_from_zero and not chart.log_y):
        axes.set_ylim(bottom=0)
    axes.set_xlabel(chart.y_label if is_dots else chart.x_label)
    axes.set_ylabel("" if is_dots else chart.y_label)
    axes.grid(axis="both" if chart.kind == "scatter" else "x" if is_dots else "y")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0 if is_dots else 3)


def _truncate_label(label: str) -> str:
    label = f"\u200b{label}" if label.startswith("_") else label  # matplotlib leaves such names out of legends
    if len(label) <= MAX_LABEL_CHARS:
        return label
    return f"{label[: MAX_LABEL_CHARS // 2]}…{label[-(MAX_LABEL_CHARS // 2 - 1) :]}"
