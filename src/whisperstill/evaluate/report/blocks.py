"""The parts of a report as data: tables, charts, and sections that hold them.

A table is built once and rendered as HTML and as Markdown. A chart describes its data; `plots` draws it. Texts are
plain; each renderer escapes them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal


@dataclass(frozen=True, slots=True)
class TableCell:
    """A figure, and an aside in smaller type: `8.8` and `(7.3–10.3)`."""

    text: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.aside}" if self.aside else self.text


NOT_MEASURED = TableCell("–")


@dataclass(frozen=True, slots=True)
class Column:
    """Column header."""

    title: str
    numeric: bool = True
    """Aligned to the right; text is aligned to the left."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell per column. A `group` row has a single cell, the heading of the rows below it."""

    cells: tuple[TableCell, ...]
    kind: Literal["", "total", "group"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with title and caption."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    caption: str = ""
    collapsed: bool = False
    """Hidden until the reader opens it."""

    def drop_empty_columns(self) -> "Table":
        """The table without columns that hold no figure."""
        columns = zip(*(row.cells for row in self.rows if row.kind != "group"), strict=True)
        filled = [not {NOT_MEASURED, TableCell("")}.issuperset(cells) for cells in columns]
        rows = [row if row.kind == "group" else Row(tuple(compress(row.cells, filled)), row.kind) for row in self.rows]
        return replace(self, columns=tuple(compress(self.columns, filled)), rows=rows)


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a series; `low` and `high` are the bounds of its interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points drawn in one style."""

    name: str
    points: Sequence[Point]
    style_index: int
    """Index of colour, marker and line style: a model keeps its style in all charts of a report."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one or more series.

    `lines` joins points and shades their intervals. `dots` has a named row per point (`y` is the row's index, `x` the
    figure, `low` and `high` its interval along `x`). `scatter` has the interval along `y`.
    """

    id: str
    title: str
    kind: Literal["lines", "dots", "scatter"]
    x_label: str
    y_label: str
    series: Sequence[Series]
    rows: Sequence[str] = ()
    """Row names of `dots`, from the top."""
    ticks: Sequence[tuple[float, str]] = ()
    """Positions and labels on the x axis; empty: chosen automatically."""
    log_x: bool = False
    log_y: bool = False
    y_from_zero: bool = True
    """`lines` only: the y axis starts at 0, unless it is logarithmic."""
    x_descending: bool = False
    reference_line: float | None = None
    """Position of a line across the chart: an x value in `dots`, a y value otherwise."""
    reference_label: str = ""

    def drop_non_finite_points(self) -> "Chart":
        """The chart without infinite or undefined points, and without series that have no other."""
        series = [
            replace(line, points=[point for point in line.points if math.isfinite(point.x + point.y)])
            for line in self.series
        ]
        return replace(self, series=[line for line in series if line.points])

    @property
    def summary(self) -> str:
        """The chart in words, for screen readers."""
        chart_type = {"lines": "Line chart", "dots": "Dot plot", "scatter": "Scatter plot"}[self.kind]
        series_text = "; ".join(map(self._describe_series, self.series))
        return f"{chart_type}: {self.y_label or 'rows'} against {self.x_label}. {series_text}."

    def _describe_series(self, series: Series) -> str:
        if self.kind == "dots":
            values = [f"{self.rows[int(point.y)]} {point.x:.1f}" for point in series.points[:12]]
            return f"{series.name}: " + ", ".join(values) + (", …" if len(series.points) > 12 else "")
        ticks = dict(self.ticks)
        ends = (series.points[0], series.points[-1])
        first, last = (f"{point.y:.3g} at {ticks.get(point.x) or f'{point.x:g}'}" for point in ends)
        return f"{series.name}: {first}" if len(series.points) == 1 else f"{series.name}: from {first} to {last}"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under one heading."""

    id: str
    title: str
    toc_heading: str
    """Heading in the table of contents under which the section is listed."""
    lead: str = ""
    """Main result of the section, in a sentence or two."""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    kind: Literal["", "error_examples", "draft_traces"] = ""
    """Content besides tables and charts."""


def make_row(*cells: TableCell | str, kind: Literal["", "total", "group"] = "") -> Row:
    """A row of cells and plain strings."""
    return Row(tuple(TableCell(cell) if isinstance(cell, str) else cell for cell in cells), kind)


def make_columns(*titles: str, text: int = 1) -> tuple[Column, ...]:
    """Columns; the first `text` of them hold text, the others numbers."""
    return tuple(Column(title, numeric=index >= text) for index, title in enumerate(titles))
