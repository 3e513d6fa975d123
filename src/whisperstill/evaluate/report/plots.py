"""Charts as inline SVG, with matplotlib.

Colours are CSS variables, so that one picture is legible on light and dark pages and in print; letters stay letters,
in the page's own font. Matplotlib knows neither: it draws with stand-in colours, which are replaced afterwards. The
same chart gives the same bytes.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import Any

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.blocks import Chart, Series

CHART_WIDTH_PX = 460
"""Of a chart, in the units of its text's size: shown at this width a letter is as large as `FONT_SIZE_PX` says."""

CHART_HEIGHT_PX, FONT_SIZE_PX, MAX_LABEL_CHARS = 290, 12, 34
NUM_SERIES_STYLES = 8
"""Colours there are; further series begin anew."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")
_LINE_STYLES = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 2)), (0, (4, 1.5)), (0, (3, 3)), "-")
_TEXT_COLOR, _MUTED_COLOR, _GRID_COLOR = "#00aa01", "#00aa02", "#00aa03"
_CSS_VARIABLES = {_TEXT_COLOR: "var(--ink)", _MUTED_COLOR: "var(--muted)", _GRID_COLOR: "var(--rule)"}
_PLACEHOLDER_COLORS = {
    **_CSS_VARIABLES,
    **{f"#0000{index + 1:02x}": f"var(--series-{index})" for index in range(NUM_SERIES_STYLES)},
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
        height = 84 + len(chart.rows) * (14 + 7 * max(1, len(chart.series)))
    height += 18 * (_num_legend_rows(chart) - 1)
    with rc_context(_matplotlib_rc()):
        figure = Figure(figsize=(CHART_WIDTH_PX / 72, height / 72), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        {"lines": _draw_lines, "dots": _draw_dots, "scatter": _draw_scatter}[chart.kind](axes, chart)
        _format_axes(axes, chart)
        _draw_legend(figure, axes, chart)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _extract_inline_svg(buffer.getvalue(), chart, height)


def _matplotlib_rc() -> Any:
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
    style_index = series.style_index % NUM_SERIES_STYLES
    return {
        "color": f"#0000{style_index + 1:02x}",
        "marker": _MARKERS[style_index],
        "label": _truncate_label(series.name),
    }


def _draw_lines(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        style = _series_style(series)
        points = series.points
        if len(points) > 40:
            style["marker"] = ""
        x = [point.x for point in points]
        axes.plot(
            x, [point.y for point in points], linestyle=_LINE_STYLES[series.style_index % NUM_SERIES_STYLES], **style
        )
        if all(point.low is not None and point.high is not None for point in points):
            floor = min((point.y for point in points), default=1.0) / 3 if chart.log_y else 0.0
            low = [max(point.low or 0.0, floor) for point in points]
            high = [point.high or 0.0 for point in points]
            axes.fill_between(
                x, low, high, color=style["color"], alpha=0.16 if len(chart.series) < 4 else 0.09, linewidth=0
            )
    if chart.y_from_zero and not chart.log_y:
        y_max = max(
            (
                value
                for each_series in chart.series
                for each_point in each_series.points
                for value in (each_point.y, each_point.high or each_point.y)
            ),
            default=1.0,
        )
        axes.set_ylim(0, 1.08 * max(y_max, chart.reference_line or 0.0) or 1.0)


def _draw_dots(axes: Any, chart: Chart) -> None:
    spacing = 0.6 / max(1, len(chart.series))
    for index, series in enumerate(chart.series):
        offset = (index - (len(chart.series) - 1) / 2) * spacing
        y = [point.y + offset for point in series.points]
        x = [point.x for point in series.points]
        axes.errorbar(x, y, xerr=_error_bars(series, x), linestyle="none", elinewidth=1.6, **_series_style(series))
    axes.set_yticks(range(len(chart.rows)), [_truncate_label(name) for name in chart.rows])
    axes.set_ylim(len(chart.rows) - 0.45, -0.55)
    x_min = min(
        (
            each_point.low if each_point.low is not None else each_point.x
            for each_series in chart.series
            for each_point in each_series.points
        ),
        default=0.0,
    )
    if x_min >= 0:
        axes.set_xlim(left=0)


def _draw_scatter(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        y = [point.y for point in series.points]
        x = [point.x for point in series.points]
        axes.errorbar(x, y, yerr=_error_bars(series, y), linestyle="none", elinewidth=1.6, **_series_style(series))
    axes.set_xlim(0, 1.12 * max(point.x for series in chart.series for point in series.points))
    axes.set_ylim(bottom=0)


def _error_bars(series: Series, centers: Sequence[float]) -> list[list[float]] | None:
    if any(point.low is None or point.high is None for point in series.points):
        return None
    pairs = list(zip(series.points, centers, strict=True))
    return [
        [max(0.0, center - (point.low or 0.0)) for point, center in pairs],
        [max(0.0, (point.high or 0.0) - center) for point, center in pairs],
    ]


def _format_axes(axes: Any, chart: Chart) -> None:
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.log_y:
        _set_log_scale(axes.yaxis, axes.set_yscale)
    if chart.log_x:
        _set_log_scale(axes.xaxis, axes.set_xscale)
    if chart.ticks:
        from matplotlib.ticker import NullLocator

        axes.set_xticks(
            [tick for tick, _ in chart.ticks], [_truncate_label(tick_label) for _, tick_label in chart.ticks]
        )
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


def _set_log_scale(axis: Any, set_scale: Any) -> None:
    """Plain numbers (0.5, 1, 2, 5, 10) on a logarithmic axis."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _legend_labels(chart: Chart) -> list[str]:
    labels = [_truncate_label(series.name) for series in chart.series] if len(chart.series) > 1 else []
    return labels + ([chart.reference_label] if chart.reference_line is not None else [])


def _num_legend_columns(labels: Sequence[str]) -> int:
    return max(1, min(len(labels), int(CHART_WIDTH_PX // (46 + 7.2 * max(map(len, labels))))))


def _num_legend_rows(chart: Chart) -> int:
    labels = _legend_labels(chart)
    return -(-len(labels) // _num_legend_columns(labels)) if labels else 0


def _draw_legend(figure: Any, axes: Any, chart: Chart) -> None:
    labels = _legend_labels(chart)
    if labels:
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(
            [handles[label] for label in labels],
            labels,
            loc="outside lower center",
            ncols=_num_legend_columns(labels),
            frameon=False,
            handlelength=2.6,
            columnspacing=1.4,
        )


def _truncate_label(label: str) -> str:
    label = f"\u200b{label}" if label.startswith("_") else label  # matplotlib hides those from legends
    return (
        label
        if len(label) <= MAX_LABEL_CHARS
        else f"{label[: MAX_LABEL_CHARS // 2]}…{label[-(MAX_LABEL_CHARS // 2 - 1) :]}"
    )


def _extract_inline_svg(svg: str, chart: Chart, height: int) -> str:
    """What a page needs of a file that matplotlib wrote: no header, no identifiers that two charts would share."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    for pattern in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r"<defs>\s*</defs>"):
        body = re.sub(pattern, "", body, flags=re.DOTALL)
    referenced_ids = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
    body = re.sub(
        r' id="([^"]*)"', lambda match: f' id="{chart.id}-{match[1]}"' if match[1] in referenced_ids else "", body
    )
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{chart.id}-', body)
    body = body.replace("url(#", f"url(#{chart.id}-")
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"#00(?:00|aa)[0-9a-f]{2}", lambda match: _PLACEHOLDER_COLORS.get(match[0], match[0]), body)
    body = re.sub(r"\n\s*", "\n", body)
    label = html.escape(f"{chart.title}. {chart.summary}")
    return (
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH_PX} {height}" width="{CHART_WIDTH_PX}" height="{height}" '
        f'role="img" aria-label="{label}">{body}</svg>'
    )
