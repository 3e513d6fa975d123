"""What asks a stage to stop in good order."""

import signal
import threading
from types import FrameType


class set_event_on_sigterm:
    """While it is open, SIGTERM sets an event instead of killing (main thread only)."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __enter__(self) -> None:
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._set)

    def _set(self, signum: int, frame: FrameType | None) -> None:
        self._event.set()

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
