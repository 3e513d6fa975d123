"""What a report is built of: tables, charts, and sections that hold them. No format knows more than these.

A table is made once from the results and rendered twice, as HTML and as Markdown; a chart says what is drawn, not
how. Texts are plain: each renderer escapes them in its own way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class TableCell:
    """A figure and what stands beside it in smaller type: `8.8` and `(7.3–10.3)`."""

    text: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.aside}" if self.aside else self.text


NOT_MEASURED = TableCell("–")
"""Not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    title: str
    numeric: bool = True
    """Aligned to the right; words are aligned to the left."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a cell per column. A `group` has a single cell, which heads the rows below it."""

    cells: tuple[TableCell, ...]
    kind: Literal["", "total", "group"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title and a sentence on how to read it."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    collapsed: bool = False
    """Long and seldom read: shown closed."""


@dataclass(frozen=True, slots=True)
class Point:
    """Of a series; `low` and `high` are the ends of its interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn in one colour, with one marker and one kind of line."""

    name: str
    points: tuple[Point, ...]
    style_index: int
    """Which colour, marker and line: a model has the same ones in all charts of a report."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of series.

    `lines` join points and shade their intervals; `dots` lie on named rows (`y` is the row's number, `x` the figure,
    `low` and `high` the ends of its interval along `x`); `scatter` has the interval along `y` and names its points.
    """

    id: str
    title: str
    kind: Literal["lines", "dots", "scatter"]
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    rows: tuple[str, ...] = ()
    """Of `dots`, from the top."""
    ticks: tuple[tuple[float, str], ...] = ()
    """Places on the x axis and their names, where these are not the numbers themselves."""
    log_x: bool = False
    log_y: bool = False
    y_from_zero: bool = True
    """Of `lines`: the y axis begins at 0, unless it is logarithmic."""
    x_descending: bool = False
    """The x axis falls from left to right."""
    reference_line: float | None = None
    """A line across the chart: of `dots` at this x, of the others at this y."""
    reference_label: str = ""

    @property
    def summary(self) -> str:
        """The chart in words, for those who do not see it."""
        chart_type = {"lines": "Line chart", "dots": "Dot plot", "scatter": "Scatter plot"}[self.kind]
        series_text = "; ".join(self._describe_series(series) for series in self.series if series.points)
        return f"{chart_type}: {self.y_label or 'rows'} against {self.x_label}. {series_text}."

    def _describe_series(self, series: Series) -> str:
        if self.kind == "dots":
            values = [f"{self.rows[int(point.y)]} {point.x:.1f}" for point in series.points[:12]]
            return f"{series.name}: " + ", ".join(values) + (", …" if len(series.points) > 12 else "")
        tick_labels = dict(self.ticks)
        first, last = (
            f"{point.y:.3g} at {tick_labels.get(point.x) or f'{point.x:g}'}"
            for point in (series.points[0], series.points[-1])
        )
        return f"{series.name}: {first}" if len(series.points) == 1 else f"{series.name}: from {first} to {last}"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under one heading."""

    id: str
    title: str
    toc_heading: str
    """The heading in the table of contents under which it stands."""
    lead: str = ""
    """What its tables say, in a sentence or two."""
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    kind: Literal["", "error_examples", "draft_traces"] = ""
    """Some sections hold more than tables and charts."""


def make_row(*cells: TableCell | str, kind: Literal["", "total", "group"] = "") -> Row:
    """A row of values and plain strings."""
    return Row(tuple(TableCell(cell) if isinstance(cell, str) else cell for cell in cells), kind)


def make_columns(*text_titles: str, numeric_titles: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns of words, then columns of figures."""
    return (*(Column(title, numeric=False) for title in text_titles), *(Column(title) for title in numeric_titles))


def drop_empty_columns(table: Table) -> Table:
    """The table without columns in which nothing was measured."""
    data_rows = [row for row in table.rows if row.kind != "group"]
    kept_columns = [
        index
        for index in range(len(table.columns))
        if any(row.cells[index] not in (NOT_MEASURED, TableCell("")) for row in data_rows)
    ]
    rows = [
        row if row.kind == "group" else replace(row, cells=tuple(row.cells[index] for index in kept_columns))
        for row in table.rows
    ]
    return replace(table, columns=tuple(table.columns[index] for index in kept_columns), rows=tuple(rows))
