"""Charts as SVG."""

import re

import pytest

from whisperstill.evaluate.report.blocks import Chart, Point, Series
from whisperstill.evaluate.report.plots import render_svg


def chart(kind: str = "lines", **changes: object) -> Chart:
    points = (Point(1, 2, 1.5, 2.5), Point(2, 3, 2.0, 4.0))
    known = {
        "id": "one",
        "title": "One",
        "kind": kind,
        "x_label": "x <1>",
        "y_label": "y",
        "series": (Series("first", points, 0), Series("a & b", points, 9)),
        "ticks": dict(enumerate(("top", "middle", "bottom", "last"))) if kind == "dots" else {},
    }
    return Chart(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lines", "dots", "scatter"])
def test_svg_uses_only_the_colours_of_the_page(kind: str) -> None:
    svg = render_svg(chart(kind))
    assert svg.startswith('<svg class="chart" viewBox="0 0 460 ') and svg.endswith("</svg>")
    assert set(re.findall(r"var\(--[a-z0-9-]+\)", svg)) >= {"var(--ink)", "var(--series-0)", "var(--series-1)"}
    assert not re.findall(r"#[0-9a-f]{6}", svg), "no colour outside the page's palette"
    assert "<text" in svg and "x &lt;1&gt;" in svg and "a &amp; b" in svg
    assert "xmlns" not in svg and "<style" not in svg and "metadata" not in svg


@pytest.mark.parametrize("kind", ["lines", "dots", "scatter"])
def test_same_chart_gives_the_same_svg(kind: str) -> None:
    assert render_svg(chart(kind)) == render_svg(chart(kind))


def test_charts_share_no_identifier() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', render_svg(chart(id=name)))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]


def test_summary_describes_the_data() -> None:
    assert chart().summary == "Line chart: y against x <1>. first: 2 at 1, 3 at 2; a & b: 2 at 1, 3 at 2."
    assert "top" not in chart().summary
    assert "2 at middle" in chart("dots").summary


def test_log_axis_reference_line_and_descending_axis() -> None:
    points = tuple(Point(x, y) for x, y in ((40, 4), (10, 30), (-10, 95)))
    many = tuple(Series(f"a model with a rather long name, number {n}", points, n) for n in range(10))
    svg = render_svg(chart(series=many, log_y=True, x_descending=True, reference_line=50.0, reference_label="half"))
    assert "half" in svg and ">50<" in svg and "…" in svg
    places = {name: float(x) for x, name in re.findall(r'<text[^>]* x="([\d.]+)"[^>]*>([^<]+)<', svg)}
    assert places["40"] < places["0"] < places["−10"], "from clean to noisy"


def test_series_name_with_a_leading_underscore_is_in_the_legend() -> None:
    """matplotlib leaves such labels out of legends."""
    points = (Point(1, 2, 1.5, 2.5),)
    assert "_mine" in render_svg(chart(series=(Series("_mine", points, 0), Series("_theirs", points, 1))))
