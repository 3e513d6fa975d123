"""Random access to the recent part of a recording that is read once, front to back.

A recording that breaks off ends there: the audio before is kept, and `read_error` holds the error.
"""

from collections.abc import Iterator

import numpy as np

from whisperstill.audio.levels import Block, Waveform
from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE


class AudioReader:
    """Reads stretches of a recording that comes in blocks of 16 kHz mono; discarded audio takes no memory."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._buffer = np.zeros(0, np.float32)
        self._buffer_start = 0  # sample of the recording at which the buffer begins
        self._started = self._ended = False
        self.read_error: AudioError | None = None
        """Error that ended reading early."""

    @property
    def duration(self) -> float | None:
        """Seconds of the whole recording; None before its end is read."""
        return (self._buffer_start + len(self._buffer)) / SAMPLE_RATE if self._ended else None

    def read(self, start: float, duration: float) -> Waveform:
        """The audio from `start` on for `duration` seconds; shorter, or empty, if the recording ends earlier.

        Raises `ValueError` for discarded audio, `AudioError` if nothing of the recording can be read.
        """
        begin, end = round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)
        if begin < self._buffer_start:
            raise ValueError(
                f"expected a start from {self._buffer_start / SAMPLE_RATE:g} s on (earlier audio was discarded), "
                f"got {start:g} s"
            )
        parts, buffer_end = [self._buffer], self._buffer_start + len(self._buffer)
        while buffer_end < end and not self._ended:
            block = self._read_block()
            parts.append(block)
            buffer_end += len(block)
        if len(parts) > 1:
            self._buffer = np.concatenate(parts)
        return self._buffer[begin - self._buffer_start : end - self._buffer_start].copy()

    def drain(self) -> Iterator[Block]:
        """The rest of the recording, block by block; yielded audio is discarded."""
        while True:
            block, self._buffer = self._buffer, self._buffer[:0]
            self._buffer_start += len(block)
            if len(block):
                yield block
            self._buffer = self._read_block()
            if not len(self._buffer):
                return

    def _read_block(self) -> Block:
        """The next non-empty block; an empty one at the end."""
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
        """Whether the recording is longer than this many seconds."""
        return len(self.read(max(seconds, self._buffer_start / SAMPLE_RATE), 1 / SAMPLE_RATE)) > 0

    def discard_before(self, seconds: float) -> None:
        """Discard the audio before this many seconds."""
        num_dropped = min(max(0, round(seconds * SAMPLE_RATE) - self._buffer_start), len(self._buffer))
        self._buffer, self._buffer_start = self._buffer[num_dropped:], self._buffer_start + num_dropped
