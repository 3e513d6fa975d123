"""Old home of `whisperstill.console`, for imports that have not moved yet."""

from whisperstill.console import Console, NullConsole, NullProgress, Progress

__all__ = ["Console", "NullConsole", "NullProgress", "Progress"]
