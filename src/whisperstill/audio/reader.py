"""A recording read once, from its beginning on, of which the last part can be looked at again and again.

One that breaks off ends there: what was read before is not lost for it, and `broken` says what was wrong.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE


class AudioReader:
    """Stretches of a recording that comes in blocks of 16 kHz mono audio; what is forgotten costs no memory."""

    def __init__(self, blocks: Iterator[Float32[np.ndarray, "_"]]) -> None:
        self._blocks = blocks
        self._buffer = np.zeros(0, np.float32)
        self._buffer_start = 0  # sample at which what is held begins
        self._started = self._ended = False
        self.read_error: AudioError | None = None
        """Why the recording could not be read on behind what was read of it."""

    @property
    def duration(self) -> float | None:
        """Seconds of the whole recording; None before its end has been read."""
        return (self._buffer_start + len(self._buffer)) / SAMPLE_RATE if self._ended else None

    def read(self, start: float, duration: float) -> Float32[np.ndarray, "samples"]:
        """The audio from `start` on for `duration` seconds; shorter, or empty, where the recording ends before.

        Raises `ValueError` for what has been forgotten, `AudioError` where nothing at all can be read.
        """
        begin, end = round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)
        if begin < self._buffer_start:
            raise ValueError(
                f"{start:g} s lies before {self._buffer_start / SAMPLE_RATE:g} s, from where audio is held"
            )
        parts, buffer_end = [self._buffer], self._buffer_start + len(self._buffer)
        while buffer_end < end and not self._ended:
            block = self._read_block()
            parts.append(block)
            buffer_end += len(block)
        if len(parts) > 1:
            self._buffer = np.concatenate(parts)
        return self._buffer[begin - self._buffer_start : end - self._buffer_start].copy()

    def drain(self) -> Iterator[Float32[np.ndarray, "_"]]:
        """All that is held and all that is to come, block by block; nothing of it is held any more."""
        while True:
            block, self._buffer = self._buffer, self._buffer[:0]
            self._buffer_start += len(block)
            if len(block):
                yield block
            self._buffer = self._read_block()
            if not len(self._buffer):
                return

    def _read_block(self) -> Float32[np.ndarray, "_"]:
        """The next block that is not empty; an empty one at the end."""
        empty = np.zeros(0, np.float32)
        try:
            block = next((block for block in self._blocks if len(block)), empty)
        except AudioError as error:
            if not self._started:
                raise
            self.read_error, block = error, empty
        self._started, self._ended = True, not len(block)
        return block

    def has_audio_after(self, seconds: float) -> bool:
        """Whether there is audio after this many seconds."""
        return len(self.read(max(seconds, self._buffer_start / SAMPLE_RATE), 1 / SAMPLE_RATE)) > 0

    def discard_before(self, seconds: float) -> None:
        """Nothing before this many seconds will be asked for again."""
        num_dropped = min(max(0, round(seconds * SAMPLE_RATE) - self._buffer_start), len(self._buffer))
        self._buffer, self._buffer_start = self._buffer[num_dropped:], self._buffer_start + num_dropped
