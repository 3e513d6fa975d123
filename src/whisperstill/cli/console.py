"""The console of the command line. The only module that knows rich.

Tables go to standard output (they are the result); messages and bars to standard error. Where standard error is no
terminal, a bar becomes a plain line now and then, so that a log file stays readable.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from whisperstill.stages.console import Progress as OpenBar

SECONDS_BETWEEN_LINES = 15.0
REAL_TIME_UNITS = {"hours": 3600.0, "h": 3600.0, "seconds": 1.0, "s": 1.0}
"""Units of audio: their speed is shown as a multiple of real time."""


class Lasting(RichConsole):
    """A console whose reader may go away: work goes on, and nothing more is shown."""

    def on_broken_pipe(self) -> None:
        """Instead of the end of the program, which is rich's default."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class Terminal:
    """Shows what the stages say (see `stages.console.Console`)."""

    def __init__(self, output: RichConsole | None = None, messages: RichConsole | None = None) -> None:
        self.output = output or Lasting(highlight=False)
        self.messages = messages or Lasting(stderr=True, highlight=False)
        if not self.output.is_terminal:
            self.output = output or Lasting(highlight=False, width=160)

    def info(self, message: str) -> None:
        """One line to standard error."""
        self.messages.print(message, markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line to standard error, marked."""
        self.messages.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True, style="yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table to standard output; columns that hold figures are aligned to the right."""
        drawn = Table(title=Text(title) if title else None, title_justify="left")
        for index, column in enumerate(columns):
            figures = bool(rows) and all(looks_like_figure(row[index]) for row in rows)
            drawn.add_column(column, justify="right" if figures else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*map(Text, row))
        self.output.print(drawn)

    @contextmanager
    def progress(self, label: str, total: float, unit: str) -> Iterator[OpenBar]:
        """A bar on a terminal, plain lines elsewhere: done and total, speed, time left."""
        meter = Meter(label, total, unit)
        if self.messages.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[figures]}", markup=False),
            )
            with Progress(*columns, console=self.messages) as drawn:
                task = drawn.add_task(label, total=total or None, figures=meter.figures())
                yield Bar(meter, lambda: show(drawn, task, meter))
                show(drawn, task, meter)
        else:
            lines = Lines(meter, self.info)
            yield Bar(meter, lines.show)
            lines.show(last=True)


def show(drawn: Progress, task: TaskID, meter: "Meter") -> None:
    """Redraws a bar."""
    drawn.update(task, completed=meter.done, figures=meter.figures())


class Meter:
    """Counts, and turns counts into figures."""

    def __init__(self, label: str, total: float, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.total, self.unit, self.clock = label, total, unit, clock
        self.done = 0.0
        self.found = 0.0
        """What of it was done before the clock ran."""
        self.fields: dict[str, str] = {}
        self.begun = clock()

    def figures(self) -> str:
        """`0.52/4.03 hours · 43x real time · 5 min left · loss 1.234`."""
        digits = 0 if self.total == int(self.total) and self.unit not in REAL_TIME_UNITS else 2
        known = f"/{self.total:.{digits}f}" if self.total else ""  # nobody knows how long a pipe is
        parts = [f"{self.done:.{digits}f}{known} {self.unit}"]
        elapsed = self.clock() - self.begun
        if self.done > self.found and elapsed > 0:
            speed = (self.done - self.found) / elapsed
            if self.unit in REAL_TIME_UNITS:
                parts.append(f"{speed * REAL_TIME_UNITS[self.unit]:.1f}x real time")
            else:
                parts.append(f"{speed:.2f}/s" if speed >= 0.1 else f"{1 / speed:.1f} s each")
            left = max(self.total - self.done, 0.0) / speed
            parts.append(f"{spoken(left)} left" if self.done < self.total else f"took {spoken(elapsed)}")
        parts += [f"{name.replace('_', ' ')} {value}" for name, value in self.fields.items()]
        return " · ".join(parts)


class Bar:
    """What a stage holds while a bar is open."""

    def __init__(self, meter: Meter, refresh: Callable[[], None]) -> None:
        self.meter, self.refresh = meter, refresh

    def advance(self, amount: float, **fields: str) -> None:
        """`amount` more units are done."""
        self.meter.done += amount
        self.meter.fields.update(fields)
        self.refresh()

    def found(self, amount: float) -> None:
        """`amount` units were done before."""
        self.meter.done += amount
        self.meter.found += amount
        self.refresh()


class Lines:
    """A bar for a log file: the first figures soon, then one line every few seconds, and one at the end."""

    def __init__(self, meter: Meter, write: Callable[[str], None]) -> None:
        self.meter, self.write = meter, write
        self.last = meter.begun
        self.shown = -1.0

    def show(self, last: bool = False) -> None:
        """Writes a line when it is time for one."""
        now = self.meter.clock()
        if (last and self.meter.done != self.shown) or now - self.last >= SECONDS_BETWEEN_LINES:
            self.write(f"{self.meter.label}: {self.meter.figures()}")
            self.last, self.shown = now, self.meter.done


def looks_like_figure(cell: str) -> bool:
    """Whether a cell holds a number (perhaps with a unit or an interval)."""
    return bool(cell) and (cell[0].isdigit() or (cell[0] in "+-−" and cell[1:2].isdigit()) or cell in ("-", "–"))


def spoken(seconds: float) -> str:
    """`42 s`, `5 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
