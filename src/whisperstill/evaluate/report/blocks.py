"""What a report is built of: tables, charts, and sections that hold them. No format knows more than these.

A table is made once from the findings and rendered twice, as HTML and as Markdown; a chart says what is drawn, not
how. Texts are plain: each renderer escapes them in its own way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Value:
    """A figure and what stands beside it in smaller type: `8.8` and `(7.3–10.3)`."""

    text: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.aside}" if self.aside else self.text


NOTHING = Value("–")
"""Not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    title: str
    numeric: bool = True
    """Aligned to the right; words are aligned to the left."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a value per column. A `group` has a single value, which heads the rows below it."""

    values: tuple[Value, ...]
    kind: Literal["", "total", "group"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title and a sentence on how to read it."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    folded: bool = False
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
    place: int
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
    from_zero: bool = True
    """Of `lines`: the y axis begins at 0, unless it is logarithmic."""
    descending: bool = False
    """The x axis falls from left to right."""
    mark: float | None = None
    """A line across the chart: of `dots` at this x, of the others at this y."""
    mark_label: str = ""

    @property
    def summary(self) -> str:
        """The chart in words, for those who do not see it."""
        what = {"lines": "Line chart", "dots": "Dot plot", "scatter": "Scatter plot"}[self.kind]
        said = "; ".join(self._said(series) for series in self.series if series.points)
        return f"{what}: {self.y_label or 'rows'} against {self.x_label}. {said}."

    def _said(self, series: Series) -> str:
        if self.kind == "dots":
            pairs = [f"{self.rows[int(point.y)]} {point.x:.1f}" for point in series.points[:12]]
            return f"{series.name}: " + ", ".join(pairs) + (", …" if len(series.points) > 12 else "")
        names = dict(self.ticks)
        first, last = (
            f"{point.y:.3g} at {names.get(point.x) or f'{point.x:g}'}"
            for point in (series.points[0], series.points[-1])
        )
        return f"{series.name}: {first}" if len(series.points) == 1 else f"{series.name}: from {first} to {last}"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under one heading."""

    id: str
    title: str
    group: str
    """The heading in the table of contents under which it stands."""
    lead: str = ""
    """What its tables say, in a sentence or two."""
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    kind: Literal["", "worst", "drafts"] = ""
    """Some sections hold more than tables and charts."""


def row(*values: Value | str, kind: Literal["", "total", "group"] = "") -> Row:
    """A row of values and plain strings."""
    return Row(tuple(Value(value) if isinstance(value, str) else value for value in values), kind)


def columns(*words: str, figures: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns of words, then columns of figures."""
    return (*(Column(title, numeric=False) for title in words), *(Column(title) for title in figures))


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which nothing was measured."""
    full = [row for row in table.rows if row.kind != "group"]
    kept = [i for i in range(len(table.columns)) if any(row.values[i] not in (NOTHING, Value("")) for row in full)]
    rows = [
        row if row.kind == "group" else replace(row, values=tuple(row.values[i] for i in kept)) for row in table.rows
    ]
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=tuple(rows))
