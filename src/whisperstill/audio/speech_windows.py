"""Grouping speech spans into windows for the encoder: at most 30 s, cut only in pauses.

A window is emitted as soon as later audio cannot change it, so the windows of a live recording are those of the
finished one. A full window is cut at its longest pause, provided that it is at least half full then: the longest pause
is the best place, and half-empty windows cost as much as full ones.
"""

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.levels import Block, Waveform
from whisperstill.audio.vad import VadOptions, VadStream
from whisperstill.errors import SettingsError
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS

MIN_WINDOW_FILL = 0.5
INFINITE_SAMPLES = 1 << 62


def stream_speech_windows(
    blocks: Iterable[Block],
    options: VadOptions | None = None,
    method: str = "auto",
    max_seconds: float = WINDOW_SECONDS,
    max_pause: float = math.inf,
) -> Iterator[tuple[float, Waveform]]:
    """Windows of a stream of 16 kHz audio, as it arrives: start in seconds and waveform.

    They hold all spans of `detect_speech_spans`; none is longer than `max_seconds` or contains a pause longer than
    `max_pause`. Memory holds the audio of two to three windows. A window is yielded at the latest when twice its length
    has arrived since its start (plus the detector's delay). Raises `SettingsError`, `MissingExtraError`.
    """
    options = options or VadOptions(max_speech_duration=max_seconds)
    stream, grouper, audio_buffer = VadStream(options, method), WindowGrouper(max_seconds, max_pause), _AudioBuffer()
    for block in blocks:
        audio_buffer.add(block)
        windows = grouper.add_spans(stream.feed(block))
        finalized_until = round(stream.finalized_until * SAMPLE_RATE)
        for begin, end in windows + grouper.advance_to(finalized_until):
            yield begin / SAMPLE_RATE, audio_buffer.read(begin, end)
        audio_buffer.discard_before(min(grouper.begin, finalized_until))
    for begin, end in grouper.add_spans(stream.finish()) + grouper.close():
        yield begin / SAMPLE_RATE, audio_buffer.read(begin, end)


class WindowGrouper:
    """Groups speech spans into windows; positions are in samples."""

    def __init__(self, max_seconds: float, max_pause: float) -> None:
        if not max_seconds * SAMPLE_RATE >= 1:
            raise SettingsError(f"max_seconds must be above 0, got {max_seconds}")
        self.max_samples = int(min(max_seconds * SAMPLE_RATE, INFINITE_SAMPLES))
        self.max_pause_samples = max_pause * SAMPLE_RATE
        self.spans: list[tuple[int, int]] = []

    @property
    def begin(self) -> int:
        """Start of the next window; `INFINITE_SAMPLES` if no span is waiting."""
        return self.spans[0][0] if self.spans else INFINITE_SAMPLES

    def add_spans(self, spans: Iterable[tuple[float, float]]) -> list[tuple[int, int]]:
        """Add spans `(start, duration)` in seconds, in order; returns the windows `(begin, end)` that are final."""
        windows: list[tuple[int, int]] = []
        for start, duration in spans:
            begin, end = round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)
            # 1. Cut a span longer than a window into equal parts.
            num_parts = -(-(end - begin) // self.max_samples)
            edges = [begin + (end - begin) * part // max(1, num_parts) for part in range(num_parts + 1)]
            # 2. Close the window at a long pause, and whenever the spans exceed a window.
            for part_begin, part_end in itertools.pairwise(edges):
                windows += self._close_at_pause(part_begin)
                self.spans.append((part_begin, part_end))
                while self.spans[-1][1] - self.spans[0][0] > self.max_samples:
                    windows.append(self._pop_window(self._count_for_window(self.spans[-1][0], len(self.spans) - 1)))
        return windows

    def advance_to(self, position: int) -> list[tuple[int, int]]:
        """The windows that are final because no further span begins before `position`."""
        windows = self._close_at_pause(position)
        # No later span fits into the window. The cut is final if the pause that is going on is chosen as the longest.
        while self.spans and position - self.spans[0][0] >= self.max_samples:
            if self._count_for_window(position, len(self.spans)) < len(self.spans):
                break
            windows.append(self._pop_window(len(self.spans)))
        return windows

    def close(self) -> list[tuple[int, int]]:
        """The last window, if any."""
        return [self._pop_window(len(self.spans))] if self.spans else []

    def _close_at_pause(self, position: int) -> list[tuple[int, int]]:
        if self.spans and position - self.spans[-1][1] > self.max_pause_samples:
            return self.close()
        return []

    def _count_for_window(self, next_begin: int, count: int) -> int:
        """Number of spans, of the first `count`, in a window that ends at its longest pause before `next_begin`."""
        begins = [begin for begin, _ in self.spans[1:count]] + [next_begin]
        window_begin = self.spans[0][0]
        best_count, longest_pause = count, -1
        for num_spans, begin in enumerate(begins, 1):
            end = self.spans[num_spans - 1][1]
            if end - window_begin >= MIN_WINDOW_FILL * self.max_samples and begin - end >= longest_pause:
                best_count, longest_pause = num_spans, begin - end
        return best_count

    def _pop_window(self, num_spans: int) -> tuple[int, int]:
        window = (self.spans[0][0], self.spans[num_spans - 1][1])
        del self.spans[:num_spans]
        return window


class _AudioBuffer:
    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.first_sample = 0

    def add(self, block: Waveform) -> None:
        if len(block):
            self.blocks.append(block)

    def read(self, begin: int, end: int) -> Float32[np.ndarray, "wanted"]:
        position, parts = self.first_sample, []
        for block in self.blocks:
            parts.append(block[max(0, begin - position) : max(0, end - position)])
            position += len(block)
        return np.concatenate(parts)

    def discard_before(self, position: int) -> None:
        while self.blocks and self.first_sample + len(self.blocks[0]) <= position:
            self.first_sample += len(self.blocks.pop(0))
