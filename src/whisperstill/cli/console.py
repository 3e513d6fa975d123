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

from whisperstill.console import Progress as StageProgress

LOG_INTERVAL_S = 15.0
AUDIO_UNIT_SECONDS = {"hours": 3600.0, "h": 3600.0, "seconds": 1.0, "s": 1.0}
"""Units of audio: their speed is shown as a multiple of real time."""


class PipeSafeConsole(RichConsole):
    """A console whose reader may go away: work goes on, and nothing more is shown."""

    def on_broken_pipe(self) -> None:
        """Instead of the end of the program, which is rich's default."""
        self.quiet = True
        devnull_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull_fd, self.file.fileno())
        os.close(devnull_fd)


class TerminalConsole:
    """Shows what the stages say (see `whisperstill.console.Console`)."""

    def __init__(self, output: RichConsole | None = None, messages: RichConsole | None = None) -> None:
        self.output = output or PipeSafeConsole(highlight=False)
        self.messages = messages or PipeSafeConsole(stderr=True, highlight=False)
        if not self.output.is_terminal:
            self.output = output or PipeSafeConsole(highlight=False, width=160)

    def info(self, message: str) -> None:
        """One line to standard error."""
        self.messages.print(message, markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line to standard error, marked."""
        self.messages.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True, style="yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table to standard output; columns that hold figures are aligned to the right."""
        rich_table = Table(title=Text(title) if title else None, title_justify="left")
        for index, column in enumerate(columns):
            is_numeric = bool(rows) and all(looks_numeric(row[index]) for row in rows)
            rich_table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
        for row in rows:
            rich_table.add_row(*map(Text, row))
        self.output.print(rich_table)

    @contextmanager
    def progress(self, label: str, total: float, unit: str) -> Iterator[StageProgress]:
        """A bar on a terminal, plain lines elsewhere: done and total, speed, time left."""
        stats = ProgressStats(label, total, unit)
        if self.messages.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[stats]}", markup=False),
            )
            with Progress(*columns, console=self.messages) as rich_progress:
                task = rich_progress.add_task(label, total=total or None, stats=stats.format_stats())
                yield ProgressBar(stats, lambda: redraw_bar(rich_progress, task, stats))
                redraw_bar(rich_progress, task, stats)
        else:
            log_progress = LogProgress(stats, self.info)
            yield ProgressBar(stats, log_progress.write_if_due)
            log_progress.write_if_due(final=True)


def redraw_bar(rich_progress: Progress, task: TaskID, stats: "ProgressStats") -> None:
    """Redraws a bar."""
    rich_progress.update(task, completed=stats.done, stats=stats.format_stats())


class ProgressStats:
    """Counts, and turns counts into figures."""

    def __init__(self, label: str, total: float, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.total, self.unit, self.clock = label, total, unit, clock
        self.done = 0.0
        self.skipped = 0.0
        """What of it was done before the clock ran."""
        self.fields: dict[str, str] = {}
        self.started_at = clock()

    def format_stats(self) -> str:
        """`0.52/4.03 hours · 43x real time · 5 min left · loss 1.234`."""
        digits = 0 if self.total == int(self.total) and self.unit not in AUDIO_UNIT_SECONDS else 2
        total_text = f"/{self.total:.{digits}f}" if self.total else ""  # nobody knows how long a pipe is
        parts = [f"{self.done:.{digits}f}{total_text} {self.unit}"]
        elapsed_s = self.clock() - self.started_at
        if self.done > self.skipped and elapsed_s > 0:
            speed = (self.done - self.skipped) / elapsed_s
            if self.unit in AUDIO_UNIT_SECONDS:
                parts.append(f"{speed * AUDIO_UNIT_SECONDS[self.unit]:.1f}x real time")
            else:
                parts.append(f"{speed:.2f}/s" if speed >= 0.1 else f"{1 / speed:.1f} s each")
            remaining_s = max(self.total - self.done, 0.0) / speed
            parts.append(
                f"{format_duration(remaining_s)} left"
                if self.done < self.total
                else f"took {format_duration(elapsed_s)}"
            )
        parts += [f"{name.replace('_', ' ')} {value}" for name, value in self.fields.items()]
        return " · ".join(parts)


class ProgressBar:
    """What a stage holds while a bar is open."""

    def __init__(self, stats: ProgressStats, refresh: Callable[[], None]) -> None:
        self.stats, self.refresh = stats, refresh

    def advance(self, amount: float, **fields: str) -> None:
        """`amount` more units are done."""
        self.stats.done += amount
        self.stats.fields.update(fields)
        self.refresh()

    def skip(self, amount: float) -> None:
        """`amount` units were done before."""
        self.stats.done += amount
        self.stats.skipped += amount
        self.refresh()


class LogProgress:
    """A bar for a log file: the first figures soon, then one line every few seconds, and one at the end."""

    def __init__(self, stats: ProgressStats, write: Callable[[str], None]) -> None:
        self.stats, self.write = stats, write
        self.last_written_at = stats.started_at
        self.last_written_done = -1.0

    def write_if_due(self, final: bool = False) -> None:
        """Writes a line when it is time for one."""
        now = self.stats.clock()
        if (final and self.stats.done != self.last_written_done) or now - self.last_written_at >= LOG_INTERVAL_S:
            self.write(f"{self.stats.label}: {self.stats.format_stats()}")
            self.last_written_at, self.last_written_done = now, self.stats.done


def looks_numeric(cell: str) -> bool:
    """Whether a cell holds a number (perhaps with a unit or an interval)."""
    return bool(cell) and (cell[0].isdigit() or (cell[0] in "+-−" and cell[1:2].isdigit()) or cell in ("-", "–"))


def format_duration(seconds: float) -> str:
    """`42 s`, `5 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
