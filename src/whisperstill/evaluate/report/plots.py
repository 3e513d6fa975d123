"""Charts as inline SVG, drawn by matplotlib.

Colours are CSS variables, so that a chart is legible on light and dark pages and in print; labels stay text in the
page's font. Matplotlib supports neither: it draws with placeholder colours, which `_inline_svg` replaces. The same
chart gives the same bytes.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.blocks import Chart, Point, Series
from whisperstill.plotting import use_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHART_WIDTH_PX, CHART_HEIGHT_PX, FONT_SIZE_PX = 460, 290, 12
MAX_LABEL_CHARS = 34
MAX_POINTS_WITH_MARKERS = 40
NUM_SERIES_STYLES = 8
"""Colours of the page; more series start again at the first."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")
_LINE_STYLES = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 2)), (0, (4, 1.5)), (0, (3, 3)), "-")
_TEXT_COLOR, _MUTED_COLOR, _GRID_COLOR = "#00aa01", "#00aa02", "#00aa03"
_CSS_VARIABLES = {_TEXT_COLOR: "var(--ink)", _MUTED_COLOR: "var(--muted)", _GRID_COLOR: "var(--rule)"}
_CSS_VARIABLES |= {f"#0000{index + 1:02x}": f"var(--series-{index})" for index in range(NUM_SERIES_STYLES)}


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
        height = 84 + len(chart.rows) * (14 + 7 * max(1, len(chart.series)))
    labels = [_truncate_label(series.name) for series in chart.series] if len(chart.series) > 1 else []
    labels += [chart.reference_label] if chart.reference_line is not None else []
    legend_columns = min(len(labels), int(CHART_WIDTH_PX // (46 + 7.2 * max(map(len, labels), default=0)))) or 1
    height += 18 * (-(-len(labels) // legend_columns) - 1)
    with rc_context(_matplotlib_rc()):
        figure = Figure(figsize=(CHART_WIDTH_PX / 72, height / 72), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        {"lines": _draw_lines, "dots": _draw_dots, "scatter": _draw_scatter}[chart.kind](axes, chart)
        _format_axes(axes, chart)
        if labels:
            handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
            figure.legend(
                [handles[label] for label in labels],
                labels,
                loc="outside lower center",
                ncols=legend_columns,
                frameon=False,
                handlelength=2.6,
                columnspacing=1.4,
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline_svg(buffer.getvalue(), chart, height)


def _matplotlib_rc() -> dict[Any, Any]:
    text_color_keys = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "whisperstill",
        "text.parse_math": False,
        "font.size": FONT_SIZE_PX,
        "axes.labelsize": FONT_SIZE_PX,
        "legend.fontsize": FONT_SIZE_PX,
        "axes.edgecolor": _MUTED_COLOR,
        "xtick.color": _MUTED_COLOR,
        "ytick.color": _MUTED_COLOR,
        "grid.color": _GRID_COLOR,
        "lines.linewidth": 2,
        "lines.markersize": 5.5,
        **dict.fromkeys(text_color_keys, _TEXT_COLOR),
    }


def _series_style(series: Series) -> dict[str, Any]:
    index = series.style_index % NUM_SERIES_STYLES
    return {"color": f"#0000{index + 1:02x}", "marker": _MARKERS[index], "label": _truncate_label(series.name)}


def _all_points(chart: Chart) -> list[Point]:
    return [point for series in chart.series for point in series.points]


def _draw_lines(axes: "Axes", chart: Chart) -> None:
    for series in chart.series:
        style, points = _series_style(series), series.points
        if len(points) > MAX_POINTS_WITH_MARKERS:
            style["marker"] = ""
        x = [point.x for point in points]
        line_style = _LINE_STYLES[series.style_index % NUM_SERIES_STYLES]
        axes.plot(x, [point.y for point in points], linestyle=line_style, **style)
        if all(point.low is not None and point.high is not None for point in points):
            floor = min((point.y for point in points), default=1.0) / 3 if chart.log_y else 0.0
            low = [max(point.low or 0.0, floor) for point in points]
            high = [point.high or 0.0 for point in points]
            opacity = 0.16 if len(chart.series) < 4 else 0.09
            axes.fill_between(x, low, high, color=style["color"], alpha=opacity, linewidth=0)
    if chart.y_from_zero and not chart.log_y:
        y_max = max((max(point.y, point.high or point.y) for point in _all_points(chart)), default=1.0)
        axes.set_ylim(0, 1.08 * max(y_max, chart.reference_line or 0.0) or 1.0)


def _draw_dots(axes: "Axes", chart: Chart) -> None:
    spacing = 0.6 / max(1, len(chart.series))
    for index, series in enumerate(chart.series):
        offset = (index - (len(chart.series) - 1) / 2) * spacing
        x, y = [point.x for point in series.points], [point.y + offset for point in series.points]
        axes.errorbar(x, y, xerr=_error_bars(series, x), linestyle="none", elinewidth=1.6, **_series_style(series))
    axes.set_yticks(range(len(chart.rows)), list(map(_truncate_label, chart.rows)))
    axes.set_ylim(len(chart.rows) - 0.45, -0.55)
    if min((point.x if point.low is None else point.low for point in _all_points(chart)), default=0.0) >= 0:
        axes.set_xlim(left=0)


def _draw_scatter(axes: "Axes", chart: Chart) -> None:
    for series in chart.series:
        x, y = [point.x for point in series.points], [point.y for point in series.points]
        axes.errorbar(x, y, yerr=_error_bars(series, y), linestyle="none", elinewidth=1.6, **_series_style(series))
    axes.set_xlim(0, 1.12 * max(point.x for point in _all_points(chart)))
    axes.set_ylim(bottom=0)


def _error_bars(series: Series, centers: Sequence[float]) -> list[list[float]] | None:
    """Lengths of the error bars below and above the centres; None if a point has no interval."""
    lows, highs = [point.low for point in series.points], [point.high for point in series.points]
    if None in lows or None in highs:
        return None
    return [
        [max(0.0, center - (low or 0.0)) for center, low in zip(centers, lows, strict=True)],
        [max(0.0, (high or 0.0) - center) for center, high in zip(centers, highs, strict=True)],
    ]


def _format_axes(axes: "Axes", chart: Chart) -> None:
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    for axis_name, is_log in (("y", chart.log_y), ("x", chart.log_x)):
        if is_log:
            use_log_scale(axes, axis_name)
    if chart.ticks:
        from matplotlib.ticker import NullLocator

        axes.set_xticks([tick for tick, _ in chart.ticks], [_truncate_label(label) for _, label in chart.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if chart.x_descending:
        axes.invert_xaxis()
    if chart.reference_line is not None:
        draw_line = axes.axvline if chart.kind == "dots" else axes.axhline
        draw_line(
            chart.reference_line,
            color=_MUTED_COLOR,
            linewidth=1.4,
            linestyle=(0, (2, 2)),
            label=chart.reference_label,
            zorder=0,
        )
    axes.grid(axis="x" if chart.kind == "dots" else "both" if chart.kind == "scatter" else "y", linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0 if chart.kind == "dots" else 3)


def _truncate_label(label: str) -> str:
    label = f"\u200b{label}" if label.startswith("_") else label  # matplotlib leaves such names out of legends
    if len(label) <= MAX_LABEL_CHARS:
        return label
    return f"{label[: MAX_LABEL_CHARS // 2]}…{label[-(MAX_LABEL_CHARS // 2 - 1) :]}"


def _inline_svg(svg: str, chart: Chart, height: int) -> str:
    """The drawing of a file that matplotlib wrote, as an element that can stand beside others in a page."""
    root = ElementTree.fromstring(svg)
    # 1. Remove metadata and styles; they are the file's, not the drawing's.
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.rpartition("}")[2]
            if tag in ("metadata", "style") or (tag == "defs" and not len(child)):
                parent.remove(child)
    # 2. Drop namespaces, make identifiers unique in the page, and replace placeholder colours.
    referenced_ids = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id" and value not in referenced_ids:
                continue
            prefixed = f"{chart.id}-{value}" if key == "id" else re.sub(r"^#|(?<=url\()#", f"#{chart.id}-", value)
            element.set(key, _inline_style(prefixed if key in ("id", "href") or "url(" in value else value))
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    label = html.escape(f"{chart.title}. {chart.summary}")
    return (
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH_PX} {height}" width="{CHART_WIDTH_PX}" height="{height}" '
        f'role="img" aria-label="{label}">{body}</svg>'
    )


def _inline_style(value: str) -> str:
    """An attribute with CSS variables for placeholder colours, and without matplotlib's font."""
    value = re.sub(r"#00(?:00|aa)[0-9a-f]{2}", lambda match: _CSS_VARIABLES.get(match[0], match[0]), value)
    return re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
