"""A recording read once, from its beginning on, of which the last part can be looked at again and again.

One that breaks off ends there: what was read before is not lost for it, and `broken` says what was wrong.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE


class Reader:
    """Stretches of a recording that comes in blocks of 16 kHz mono audio; what is forgotten costs no memory."""

    def __init__(self, blocks: Iterator[Float32[np.ndarray, "_"]]) -> None:
        self._blocks = blocks
        self._held = np.zeros(0, np.float32)
        self._first = 0  # sample at which what is held begins
        self._begun = self._ended = False
        self.broken: AudioError | None = None
        """Why the recording could not be read on behind what was read of it."""

    @property
    def duration(self) -> float | None:
        """Seconds of the whole recording; None before its end has been read."""
        return (self._first + len(self._held)) / SAMPLE_RATE if self._ended else None

    def stretch(self, start: float, duration: float) -> Float32[np.ndarray, "samples"]:
        """The audio from `start` on for `duration` seconds; shorter, or empty, where the recording ends before.

        Raises `ValueError` for what has been forgotten, `AudioError` where nothing at all can be read.
        """
        begin, end = round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)
        if begin < self._first:
            raise ValueError(f"{start:g} s lies before {self._first / SAMPLE_RATE:g} s, from where audio is held")
        parts, held = [self._held], self._first + len(self._held)
        while held < end and not self._ended:
            block = self._read()
            parts.append(block)
            held += len(block)
        if len(parts) > 1:
            self._held = np.concatenate(parts)
        return self._held[begin - self._first : end - self._first].copy()

    def rest(self) -> Iterator[Float32[np.ndarray, "_"]]:
        """All that is held and all that is to come, block by block; nothing of it is held any more."""
        while True:
            block, self._held = self._held, self._held[:0]
            self._first += len(block)
            if len(block):
                yield block
            self._held = self._read()
            if not len(self._held):
                return

    def _read(self) -> Float32[np.ndarray, "_"]:
        """The next block that is not empty; an empty one at the end."""
        nothing = np.zeros(0, np.float32)
        try:
            block = next((block for block in self._blocks if len(block)), nothing)
        except AudioError as error:
            if not self._begun:
                raise
            self.broken, block = error, nothing
        self._begun, self._ended = True, not len(block)
        return block

    def goes_beyond(self, seconds: float) -> bool:
        """Whether there is audio after this many seconds."""
        return len(self.stretch(max(seconds, self._first / SAMPLE_RATE), 1 / SAMPLE_RATE)) > 0

    def forget(self, before: float) -> None:
        """Nothing before this many seconds will be asked for again."""
        drop = min(max(0, round(before * SAMPLE_RATE) - self._first), len(self._held))
        self._held, self._first = self._held[drop:], self._first + drop
