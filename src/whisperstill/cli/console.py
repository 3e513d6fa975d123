"""Console of the command line; the only module that imports rich.

Tables go to standard output (they are the result), messages and progress bars to standard error. Where standard error
is not a terminal, progress is a plain line every few seconds, so that log files stay readable.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from whisperstill.console import Progress as StageProgress, format_duration

LOG_INTERVAL_S = 15.0
AUDIO_UNIT_SECONDS = {"hours": 3600.0, "h": 3600.0, "seconds": 1.0, "s": 1.0}
"""Units of audio; their speed is shown as a multiple of real time."""


class PipeSafeConsole(RichConsole):
    """Console that stops printing when its reader closes the pipe, while the program goes on."""

    def on_broken_pipe(self) -> None:
        """Redirects output to /dev/null; rich would exit the program."""
        self.quiet = True
        devnull_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull_fd, self.file.fileno())
        os.close(devnull_fd)


class TerminalConsole:
    """Implements `whisperstill.console.Console` on a terminal or in a log file."""

    def __init__(
        self,
        output: RichConsole | None = None,
        messages: RichConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.output = output or PipeSafeConsole(highlight=False)
        self.messages = messages or PipeSafeConsole(stderr=True, highlight=False)
        self.clock = clock
        if output is None and not self.output.is_terminal:
            self.output = PipeSafeConsole(highlight=False, width=160)

    def info(self, message: str) -> None:
        """Prints one line to standard error."""
        self.messages.print(message, markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Prints one line to standard error, marked as a warning."""
        self.messages.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True, style="yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table to standard output; columns of numbers are right-aligned."""
        rich_table = Table(title=Text(title) if title else None, title_justify="left")
        for index, column in enumerate(columns):
            is_numeric = bool(rows) and all(looks_numeric(row[index]) for row in rows)
            rich_table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
        for row in rows:
            rich_table.add_row(*map(Text, row))
        self.output.print(rich_table)

    @contextmanager
    def progress(self, label: str, total: float, unit: str) -> Iterator[StageProgress]:
        """Progress bar on a terminal, a line every `LOG_INTERVAL_S` elsewhere: done, total, speed, time left."""
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), StatsColumn())
        is_terminal = self.messages.is_terminal
        with Progress(*columns, console=self.messages, get_time=self.clock, disable=not is_terminal) as rich_progress:
            task_id = rich_progress.add_task(label, total=total or None, unit=unit, skipped=0.0, figures={})
            task_progress = TaskProgress(rich_progress, task_id, None if is_terminal else self.info)
            yield task_progress
            task_progress.finish()


class StatsColumn(ProgressColumn):
    """The column of `format_stats`."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(format_stats(task))


def format_stats(task: Task) -> str:
    """Units done, mean speed, time left, figures: `0.52/4.03 hours · 43.0x real time · 5 min left · loss 1.234`.

    Units skipped (done in an earlier run) do not count in the speed.
    """
    unit, total = task.fields["unit"], task.total
    seconds_per_unit = AUDIO_UNIT_SECONDS.get(unit)
    digits = 0 if seconds_per_unit is None and (total is None or total == int(total)) else 2
    total_text = "" if total is None else f"/{total:.{digits}f}"  # the length of a pipe is unknown
    parts = [f"{task.completed:.{digits}f}{total_text} {unit}"]
    elapsed_s = task.elapsed or 0.0
    newly_done = task.completed - task.fields["skipped"]
    if newly_done > 0 and elapsed_s > 0:
        speed = newly_done / elapsed_s
        if seconds_per_unit is not None:
            parts.append(f"{speed * seconds_per_unit:.1f}x real time")
        else:
            parts.append(f"{speed:.2f}/s" if speed >= 0.1 else f"{1 / speed:.1f} s each")
        if total is not None and task.completed < total:
            parts.append(f"{format_duration((total - task.completed) / speed)} left")
        else:
            parts.append(f"took {format_duration(elapsed_s)}")
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in task.fields["figures"].items()]
    return " · ".join(parts)


class TaskProgress:
    """Progress of one task of rich; with `log`, also written there every `LOG_INTERVAL_S`, and once at the end."""

    def __init__(self, rich_progress: Progress, task_id: TaskID, log: Callable[[str], None] | None) -> None:
        self._rich_progress, self._task_id, self._log = rich_progress, task_id, log
        self._logged_at_s, self._logged_units = rich_progress.get_time(), -1.0

    @property
    def _task(self) -> Task:
        return self._rich_progress.tasks[self._task_id]

    def advance(self, amount: float, **fields: str) -> None:
        """Adds `amount` finished units."""
        self._rich_progress.update(self._task_id, advance=amount, figures={**self._task.fields["figures"], **fields})
        self._write_log(LOG_INTERVAL_S)

    def skip(self, amount: float) -> None:
        """Adds `amount` units finished in an earlier run."""
        self._rich_progress.update(self._task_id, advance=amount, skipped=self._task.fields["skipped"] + amount)
        self._write_log(LOG_INTERVAL_S)

    def finish(self) -> None:
        """Logs the last line, unless it was logged already."""
        if self._task.completed != self._logged_units:
            self._write_log(0.0)

    def _write_log(self, interval_s: float) -> None:
        """Logs a line if the last one is at least `interval_s` old."""
        if self._log is not None and self._rich_progress.get_time() - self._logged_at_s >= interval_s:
            self._log(f"{self._task.description}: {format_stats(self._task)}")
            self._logged_at_s, self._logged_units = self._rich_progress.get_time(), self._task.completed


def looks_numeric(cell: str) -> bool:
    """Whether a cell holds a number, perhaps with a unit or an interval."""
    return bool(cell) and (cell[0].isdigit() or (cell[0] in "+-−" and cell[1:2].isdigit()) or cell in ("-", "–"))
