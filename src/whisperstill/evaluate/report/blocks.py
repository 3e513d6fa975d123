"""The parts of a report as data: tables, charts, and sections that hold them.

A table is built once and rendered as HTML and as Markdown. A chart describes its data; `plots` draws it. Texts are
plain; each renderer escapes them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal, TypeVar


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, and an aside in smaller type: `8.8` and `(7.3–10.3)`."""

    text: str
    aside: str = ""
    total: bool = False
    """Begins a row of totals."""

    def __str__(self) -> str:
        return f"{self.text} {self.aside}" if self.aside else self.text


NOT_MEASURED = Cell("–")

T = TypeVar("T")
Columns = Sequence[tuple[str, Callable[[T], Cell | str]]]
"""Column titles, and the functions that make a cell of a row's item; an empty text is not measured."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with title and caption. A row of a single cell is the heading of the rows below it."""

    id: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    text_columns: int
    """Columns aligned to the left, from the first; the others hold numbers and are aligned to the right."""
    collapsed: bool
    """Hidden until the reader opens it."""

    @classmethod
    def build(
        cls,
        table_id: str,
        title: str,
        columns: Columns[T],
        groups: Mapping[str, Iterable[T]],
        caption: str = "",
        text_columns: int = 1,
        collapsed: bool = False,
    ) -> "Table":
        """A table with a row per item, without columns that hold no figure.

        `groups` maps headings to the items below them; an empty heading is left out.
        """
        rows: list[list[Cell]] = []
        for heading, items in groups.items():
            group = [[_as_cell(cell(item)) for _, cell in columns] for item in items]
            rows += [[Cell(heading)], *group] if heading and group else group
        body = [row for row in rows if len(row) > 1]
        filled = [any(row[index] != NOT_MEASURED for row in body) for index in range(len(columns))]
        rows = [list(compress(row, filled)) if len(row) > 1 else row for row in rows]
        titles = [title for title, _ in compress(columns, filled)]
        return cls(table_id, title, titles, rows, caption, sum(filled[:text_columns]), collapsed)


def _as_cell(content: Cell | str) -> Cell:
    return content if isinstance(content, Cell) else Cell(content) if content else NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a series; `low` and `high` are the bounds of the interval of `y`."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


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

    `lines` joins points and shades their intervals, `scatter` does not join them. `dots` has `x` downward, one named
    row per tick.
    """

    id: str
    title: str
    kind: Literal["lines", "dots", "scatter"]
    x_label: str
    y_label: str
    series: Sequence[Series]
    ticks: Mapping[float, str]
    """Label by position on the x axis; empty: chosen automatically."""
    log_x: bool = False
    log_y: bool = False
    y_from_zero: bool = True
    """`lines` only: the y axis starts at 0, unless it is logarithmic."""
    x_descending: bool = False
    reference_line: float | None = None
    """A y value that is marked across the chart."""
    reference_label: str = ""

    def drop_non_finite_points(self) -> "Chart":
        """The chart without infinite or undefined points, and without series that have no other."""
        series = [replace(s, points=[p for p in s.points if math.isfinite(p.x + p.y)]) for s in self.series]
        return replace(self, series=[line for line in series if line.points])

    @property
    def summary(self) -> str:
        """The chart in words, for screen readers: all points of a dot plot, the ends of other series."""
        chart_type = {"lines": "Line chart", "dots": "Dot plot", "scatter": "Scatter plot"}[self.kind]
        texts = []
        for series in self.series:
            points = series.points[:12] if self.kind == "dots" else [*series.points[:1], *series.points[1:][-1:]]
            values = [f"{point.y:.3g} at {self.ticks.get(point.x, f'{point.x:g}')}" for point in points]
            texts.append(f"{series.name}: {', '.join(values)}")
        return f"{chart_type}: {self.y_label} against {self.x_label or 'rows'}. {'; '.join(texts)}."


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
    special: Literal["", "error_examples", "draft_traces"] = ""
    """Content besides tables and charts."""
