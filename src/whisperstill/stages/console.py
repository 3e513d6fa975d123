"""What a stage may say while it works: the seam between the stages and whatever shows them.

The command line draws a bar; a script or a test passes `NullConsole()`. Stages know only this protocol.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A bar that is open."""

    def advance(self, amount: float, **fields: str) -> None:
        """`amount` more units are done; `fields` are short figures shown beside the bar (`loss="1.234"`)."""
        ...

    def skip(self, amount: float) -> None:
        """`amount` units were done before: they say nothing of the speed."""
        ...


@runtime_checkable
class Console(Protocol):
    """Where a stage reports to."""

    def info(self, message: str) -> None:
        """One line the user may want to know."""
        ...

    def warn(self, message: str) -> None:
        """One line the user should know."""
        ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A result; the cells are formatted already."""
        ...

    def progress(self, label: str, total: float, unit: str) -> AbstractContextManager[Progress]:
        """Opens a bar of `total` units (`unit`: a word such as `hours`, `steps`, `files`)."""
        ...


class NullProgress:
    """A bar that nobody sees."""

    def advance(self, amount: float, **fields: str) -> None:
        """Nothing."""

    def skip(self, amount: float) -> None:
        """Nothing."""


class NullConsole:
    """A console that says nothing: for use as a library."""

    def info(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Nothing."""

    def progress(self, label: str, total: float, unit: str) -> AbstractContextManager[Progress]:
        """A bar that nobody sees."""
        return nullcontext(NullProgress())
