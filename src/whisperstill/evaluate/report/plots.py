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

WIDTH = 460
"""Of a chart, in the units of its text's size: shown at this width a letter is as large as `TEXT` says."""

HEIGHT, TEXT, MOST_LETTERS = 290, 12, 34
PLACES = 8
"""Colours there are; further series begin anew."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")
_LINES = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 2)), (0, (4, 1.5)), (0, (3, 3)), "-")
_INK, _MUTED, _RULE = "#00aa01", "#00aa02", "#00aa03"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _RULE: "var(--rule)"}
_STAND_INS = {**_VARIABLES, **{f"#0000{place + 1:02x}": f"var(--series-{place})" for place in range(PLACES)}}


def draw(chart: Chart) -> str:
    """The chart as an `<svg>` element. Raises `MissingExtraError` without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a chart", "report") from error

    height = HEIGHT
    if chart.kind == "dots":
        height = 84 + len(chart.rows) * (14 + 7 * max(1, len(chart.series)))
    height += 18 * (_legend_lines(chart) - 1)
    with rc_context(_settings()):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        {"lines": _lines, "dots": _dots, "scatter": _scatter}[chart.kind](axes, chart)
        _axes(axes, chart)
        _legend(figure, axes, chart)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _inline(written.getvalue(), chart, height)


def _settings() -> Any:
    coloured = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "whisperstill",
        "text.parse_math": False,
        "font.size": TEXT,
        "axes.labelsize": TEXT,
        "legend.fontsize": TEXT,
        "axes.edgecolor": _MUTED,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "grid.color": _RULE,
        "lines.linewidth": 2,
        "lines.markersize": 5.5,
        **dict.fromkeys(coloured, _INK),
    }


def _look(series: Series) -> dict[str, Any]:
    place = series.place % PLACES
    return {"color": f"#0000{place + 1:02x}", "marker": _MARKERS[place], "label": _short(series.name)}


def _lines(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        look = _look(series)
        points = series.points
        if len(points) > 40:
            look["marker"] = ""
        x = [point.x for point in points]
        axes.plot(x, [point.y for point in points], linestyle=_LINES[series.place % PLACES], **look)
        if all(point.low is not None and point.high is not None for point in points):
            floor = min((point.y for point in points), default=1.0) / 3 if chart.log_y else 0.0
            low = [max(point.low or 0.0, floor) for point in points]
            high = [point.high or 0.0 for point in points]
            axes.fill_between(
                x, low, high, color=look["color"], alpha=0.16 if len(chart.series) < 4 else 0.09, linewidth=0
            )
    if chart.from_zero and not chart.log_y:
        most = max((value for s in chart.series for p in s.points for value in (p.y, p.high or p.y)), default=1.0)
        axes.set_ylim(0, 1.08 * max(most, chart.mark or 0.0) or 1.0)


def _dots(axes: Any, chart: Chart) -> None:
    apart = 0.6 / max(1, len(chart.series))
    for number, series in enumerate(chart.series):
        shift = (number - (len(chart.series) - 1) / 2) * apart
        y = [point.y + shift for point in series.points]
        x = [point.x for point in series.points]
        axes.errorbar(x, y, xerr=_reach(series, x), linestyle="none", elinewidth=1.6, **_look(series))
    axes.set_yticks(range(len(chart.rows)), [_short(name) for name in chart.rows])
    axes.set_ylim(len(chart.rows) - 0.45, -0.55)
    least = min((p.low if p.low is not None else p.x for s in chart.series for p in s.points), default=0.0)
    if least >= 0:
        axes.set_xlim(left=0)


def _scatter(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        y = [point.y for point in series.points]
        x = [point.x for point in series.points]
        axes.errorbar(x, y, yerr=_reach(series, y), linestyle="none", elinewidth=1.6, **_look(series))
    axes.set_xlim(0, 1.12 * max(point.x for series in chart.series for point in series.points))
    axes.set_ylim(bottom=0)


def _reach(series: Series, middles: Sequence[float]) -> list[list[float]] | None:
    if any(point.low is None or point.high is None for point in series.points):
        return None
    pairs = list(zip(series.points, middles, strict=True))
    return [
        [max(0.0, middle - (point.low or 0.0)) for point, middle in pairs],
        [max(0.0, (point.high or 0.0) - middle) for point, middle in pairs],
    ]


def _axes(axes: Any, chart: Chart) -> None:
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.log_y:
        _logarithmic(axes.yaxis, axes.set_yscale)
    if chart.log_x:
        _logarithmic(axes.xaxis, axes.set_xscale)
    if chart.ticks:
        from matplotlib.ticker import NullLocator

        axes.set_xticks([place for place, _ in chart.ticks], [_short(name) for _, name in chart.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if chart.descending:
        axes.invert_xaxis()
    if chart.mark is not None:
        line = axes.axvline if chart.kind == "dots" else axes.axhline
        line(chart.mark, color=_MUTED, linewidth=1.4, linestyle=(0, (2, 2)), label=chart.mark_label, zorder=0)
    axes.grid(axis="x" if chart.kind == "dots" else "both" if chart.kind == "scatter" else "y", linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0 if chart.kind == "dots" else 3)


def _logarithmic(axis: Any, set_scale: Any) -> None:
    """Plain numbers (0.5, 1, 2, 5, 10) on a logarithmic axis."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _entries(chart: Chart) -> list[str]:
    names = [_short(series.name) for series in chart.series] if len(chart.series) > 1 else []
    return names + ([chart.mark_label] if chart.mark is not None else [])


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), int(WIDTH // (46 + 7.2 * max(map(len, names))))))


def _legend_lines(chart: Chart) -> int:
    names = _entries(chart)
    return -(-len(names) // _legend_columns(names)) if names else 0


def _legend(figure: Any, axes: Any, chart: Chart) -> None:
    names = _entries(chart)
    if names:
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(
            [handles[name] for name in names],
            names,
            loc="outside lower center",
            ncols=_legend_columns(names),
            frameon=False,
            handlelength=2.6,
            columnspacing=1.4,
        )


def _short(name: str) -> str:
    name = f"\u200b{name}" if name.startswith("_") else name  # matplotlib hides those from legends
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS // 2]}…{name[-(MOST_LETTERS // 2 - 1) :]}"


def _inline(svg: str, chart: Chart, height: int) -> str:
    """What a page needs of a file that matplotlib wrote: no header, no identifiers that two charts would share."""
    inside = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    for pattern in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r"<defs>\s*</defs>"):
        inside = re.sub(pattern, "", inside, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', inside))
    inside = re.sub(r' id="([^"]*)"', lambda found: f' id="{chart.id}-{found[1]}"' if found[1] in used else "", inside)
    inside = re.sub(r'(?:xlink:)?href="#', f'href="#{chart.id}-', inside)
    inside = inside.replace("url(#", f"url(#{chart.id}-")
    inside = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", inside)
    inside = re.sub(r"#00(?:00|aa)[0-9a-f]{2}", lambda found: _STAND_INS.get(found[0], found[0]), inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    label = html.escape(f"{chart.title}. {chart.summary}")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{label}">{inside}</svg>'
    )
