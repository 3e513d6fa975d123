"""Stretches of speech to windows that the encoder can read: at most 30 s, cut only in pauses.

A window is given away when nothing that follows can change it, so that windows of a recording that is still going on
are those of the finished recording. Windows that could hold more are cut at their longest pause, provided that they
are at least half full then: the pause is the better place, and half-empty windows cost as much as full ones.
"""

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.vad import VadOptions, VadStream
from whisperstill.errors import SettingsError
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS

MIN_WINDOW_FILL = 0.5
INFINITE_SAMPLES = 1 << 62


def group_into_windows(
    spans: Iterable[tuple[float, float]], max_seconds: float = WINDOW_SECONDS, max_pause: float = math.inf
) -> Iterator[tuple[float, float]]:
    """Windows `(start, duration)` in seconds that hold all `spans` (the same, in order, without overlap).

    No window is longer than `max_seconds`, and none has a pause longer than `max_pause` in it. A span longer than a
    window is cut into equal parts: `voice_spans` cuts better, for it has heard it. Raises `SettingsError` for
    `max_seconds` that are no time.
    """
    grouper = _WindowGrouper(max_seconds, max_pause)
    for start, duration in spans:
        yield from _to_seconds(grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)))
    yield from _to_seconds(grouper.close())


def stream_speech_windows(
    blocks: Iterable[Float32[np.ndarray, "_"]],
    options: VadOptions | None = None,
    method: str = "auto",
    max_seconds: float = WINDOW_SECONDS,
    max_pause: float = math.inf,
) -> Iterator[tuple[float, Float32[np.ndarray, "samples"]]]:
    """Windows of a stream of 16 kHz audio, as it comes: when each starts, in seconds, and its waveform.

    The windows of `windows_of(voice_spans(blocks, ...), ...)`. Kept in memory is the audio of two to three windows. A
    window comes at the latest when twice its length has been heard from its start on (and what the detector needs).
    Raises `SettingsError`, `MissingExtraError`.
    """
    options = options or VadOptions(max_speech_duration=max_seconds)
    stream, grouper, audio_buffer = VadStream(options, method), _WindowGrouper(max_seconds, max_pause), _AudioBuffer()
    for block in blocks:
        audio_buffer.add(block)
        windows = []
        for start, duration in stream.feed(block):
            windows += grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE))
        finalized_until = round(stream.finalized_until * SAMPLE_RATE)
        windows += grouper.advance_to(finalized_until)
        for begin, end in windows:
            yield begin / SAMPLE_RATE, audio_buffer.read(begin, end)
        audio_buffer.discard_before(min(grouper.begin, finalized_until))
    windows = []
    for start, duration in stream.finish():
        windows += grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE))
    for begin, end in windows + grouper.close():
        yield begin / SAMPLE_RATE, audio_buffer.read(begin, end)


class _WindowGrouper:
    """Spans that wait to become windows; all places are samples."""

    def __init__(self, max_seconds: float, max_pause: float) -> None:
        if not max_seconds * SAMPLE_RATE >= 1:
            raise SettingsError(f"windows must be longer than nothing, got max_seconds = {max_seconds}")
        self.max_samples = int(min(max_seconds * SAMPLE_RATE, INFINITE_SAMPLES))
        self.max_pause_samples = max_pause * SAMPLE_RATE
        self.spans: list[tuple[int, int]] = []

    @property
    def begin(self) -> int:
        """Where the next window begins, as far as is known."""
        return self.spans[0][0] if self.spans else INFINITE_SAMPLES

    def add(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The windows that are certain with one more span."""
        num_parts = -(-(end - begin) // self.max_samples)
        edges = [begin + (end - begin) * part // max(1, num_parts) for part in range(num_parts + 1)]
        windows: list[tuple[int, int]] = []
        for part_begin, part_end in itertools.pairwise(edges):
            windows += self._close_at_pause(part_begin)
            self.spans.append((part_begin, part_end))
            while self.spans[-1][1] - self.spans[0][0] > self.max_samples:
                windows.append(self._pop_window(self._count_for_window(self.spans[-1][0], len(self.spans) - 1)))
        return windows

    def advance_to(self, position: int) -> list[tuple[int, int]]:
        """The windows that are certain because no further span begins before `place`."""
        windows = self._close_at_pause(position)
        # Whatever comes does not fit in any more. Where to cut is certain if the pause that goes on is chosen already.
        while self.spans and position - self.spans[0][0] >= self.max_samples:
            if self._count_for_window(position, len(self.spans)) < len(self.spans):
                break
            windows.append(self._pop_window(len(self.spans)))
        return windows

    def close(self) -> list[tuple[int, int]]:
        """What is left: one window or none."""
        return [self._pop_window(len(self.spans))] if self.spans else []

    def _close_at_pause(self, position: int) -> list[tuple[int, int]]:
        if self.spans and position - self.spans[-1][1] > self.max_pause_samples:
            return self.close()
        return []

    def _count_for_window(self, next_begin: int, count: int) -> int:
        """How many of the first `count` spans to put into a window, if the next one begins at `following`."""
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
    """The audio that may still be asked for."""

    def __init__(self) -> None:
        self.blocks: list[Float32[np.ndarray, "_"]] = []
        self.first_sample = 0

    def add(self, block: Float32[np.ndarray, "samples"]) -> None:
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


def _to_seconds(windows: list[tuple[int, int]]) -> Iterator[tuple[float, float]]:
    for begin, end in windows:
        yield begin / SAMPLE_RATE, (end - begin) / SAMPLE_RATE
