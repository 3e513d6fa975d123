"""Protocol of long-form strategies: which windows of a recording are decoded, and in which order."""

from typing import Protocol, runtime_checkable

from whisperstill.decode.longform.assemble import TranscriptAssembler
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.longform.window_source import WindowSource


@runtime_checkable
class LongFormStrategy(Protocol):
    """One recording being transcribed: yields windows, receives their results in any order."""

    source: WindowSource
    transcript: TranscriptAssembler

    def next_window(self) -> AudioWindow | None:
        """The next window to decode; None while the strategy waits for results, and at the end."""

    def on_result(self, result: WindowResult) -> None:
        """Receive the result of a window; segments that became final are added to `transcript`."""

    @property
    def finished(self) -> bool:
        """Whether all windows were yielded and their results received."""
