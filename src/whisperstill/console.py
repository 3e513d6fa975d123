"""Protocol of messages, tables and progress bars: stages report to it, `cli.console` draws it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """An open progress bar."""

    def advance(self, amount: float, **fields: str) -> None:
        """Adds `amount` finished units; `fields` are short figures beside the bar (`loss="1.234"`)."""

    def skip(self, amount: float) -> None:
        """Adds `amount` units finished in an earlier run; they do not count in the speed."""


@runtime_checkable
class Console(Protocol):
    """Receiver of a stage's messages, tables and progress."""

    def info(self, message: str) -> None:
        """Shows one line."""

    def warn(self, message: str) -> None:
        """Shows one line, marked as a warning."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows a table of formatted cells."""

    def progress(self, label: str, total: float, unit: str) -> AbstractContextManager[Progress]:
        """Opens a progress bar of `total` units such as `hours`, `steps` or `files`."""


def format_duration(seconds: float) -> str:
    """`42 s`, `5 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class NullProgress:
    """Progress bar that shows nothing."""

    def advance(self, amount: float, **fields: str) -> None:
        """Does nothing."""

    def skip(self, amount: float) -> None:
        """Does nothing."""


class NullConsole:
    """Console that shows nothing: the default of the Python interface."""

    def info(self, message: str) -> None:
        """Does nothing."""

    def warn(self, message: str) -> None:
        """Does nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Does nothing."""

    def progress(self, label: str, total: float, unit: str) -> AbstractContextManager[Progress]:
        """Returns a progress bar that shows nothing."""
        return nullcontext(NullProgress())


SILENT = NullConsole()
"""Console of a verb that is called without one."""
