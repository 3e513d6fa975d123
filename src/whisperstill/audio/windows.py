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

from whisperstill.audio.voice import VoiceOptions, VoiceStream
from whisperstill.errors import SettingsError
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS

FULL_FRACTION = 0.5
FOREVER = 1 << 62


def windows_of(
    spans: Iterable[tuple[float, float]], max_seconds: float = WINDOW_SECONDS, max_pause: float = math.inf
) -> Iterator[tuple[float, float]]:
    """Windows `(start, duration)` in seconds that hold all `spans` (the same, in order, without overlap).

    No window is longer than `max_seconds`, and none has a pause longer than `max_pause` in it. A span longer than a
    window is cut into equal parts: `voice_spans` cuts better, for it has heard it. Raises `SettingsError` for
    `max_seconds` that are no time.
    """
    grouper = _Grouper(max_seconds, max_pause)
    for start, duration in spans:
        yield from _seconds(grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE)))
    yield from _seconds(grouper.close())


def voiced_windows(
    blocks: Iterable[Float32[np.ndarray, "_"]],
    options: VoiceOptions | None = None,
    method: str = "auto",
    max_seconds: float = WINDOW_SECONDS,
    max_pause: float = math.inf,
) -> Iterator[tuple[float, Float32[np.ndarray, "samples"]]]:
    """Windows of a stream of 16 kHz audio, as it comes: when each starts, in seconds, and its waveform.

    The windows of `windows_of(voice_spans(blocks, ...), ...)`. Kept in memory is the audio of two to three windows. A
    window comes at the latest when twice its length has been heard from its start on (and what the detector needs).
    Raises `SettingsError`, `MissingExtraError`.
    """
    options = options or VoiceOptions(max_speech_duration=max_seconds)
    stream, grouper, kept = VoiceStream(options, method), _Grouper(max_seconds, max_pause), _Kept()
    for block in blocks:
        kept.add(block)
        found = []
        for start, duration in stream.feed(block):
            found += grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE))
        settled = round(stream.settled * SAMPLE_RATE)
        found += grouper.reached(settled)
        for begin, end in found:
            yield begin / SAMPLE_RATE, kept.part(begin, end)
        kept.forget(min(grouper.begin, settled))
    found = []
    for start, duration in stream.finish():
        found += grouper.add(round(start * SAMPLE_RATE), round((start + duration) * SAMPLE_RATE))
    for begin, end in found + grouper.close():
        yield begin / SAMPLE_RATE, kept.part(begin, end)


class _Grouper:
    """Spans that wait to become windows; all places are samples."""

    def __init__(self, max_seconds: float, max_pause: float) -> None:
        if not max_seconds * SAMPLE_RATE >= 1:
            raise SettingsError(f"windows must be longer than nothing, got max_seconds = {max_seconds}")
        self.most = int(min(max_seconds * SAMPLE_RATE, FOREVER))
        self.longest_pause = max_pause * SAMPLE_RATE
        self.spans: list[tuple[int, int]] = []

    @property
    def begin(self) -> int:
        """Where the next window begins, as far as is known."""
        return self.spans[0][0] if self.spans else FOREVER

    def add(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The windows that are certain with one more span."""
        parts = -(-(end - begin) // self.most)
        edges = [begin + (end - begin) * part // max(1, parts) for part in range(parts + 1)]
        found: list[tuple[int, int]] = []
        for low, high in itertools.pairwise(edges):
            found += self._split(low)
            self.spans.append((low, high))
            while self.spans[-1][1] - self.spans[0][0] > self.most:
                found.append(self._cut(self._where(self.spans[-1][0], len(self.spans) - 1)))
        return found

    def reached(self, place: int) -> list[tuple[int, int]]:
        """The windows that are certain because no further span begins before `place`."""
        found = self._split(place)
        # Whatever comes does not fit in any more. Where to cut is certain if the pause that goes on is chosen already.
        while self.spans and place - self.spans[0][0] >= self.most:
            if self._where(place, len(self.spans)) < len(self.spans):
                break
            found.append(self._cut(len(self.spans)))
        return found

    def close(self) -> list[tuple[int, int]]:
        """What is left: one window or none."""
        return [self._cut(len(self.spans))] if self.spans else []

    def _split(self, place: int) -> list[tuple[int, int]]:
        if self.spans and place - self.spans[-1][1] > self.longest_pause:
            return self.close()
        return []

    def _where(self, following: int, count: int) -> int:
        """How many of the first `count` spans to put into a window, if the next one begins at `following`."""
        begins = [begin for begin, _ in self.spans[1:count]] + [following]
        first = self.spans[0][0]
        best, longest = count, -1
        for taken, begin in enumerate(begins, 1):
            end = self.spans[taken - 1][1]
            if end - first >= FULL_FRACTION * self.most and begin - end >= longest:
                best, longest = taken, begin - end
        return best

    def _cut(self, taken: int) -> tuple[int, int]:
        window = (self.spans[0][0], self.spans[taken - 1][1])
        del self.spans[:taken]
        return window


class _Kept:
    """The audio that may still be asked for."""

    def __init__(self) -> None:
        self.blocks: list[Float32[np.ndarray, "_"]] = []
        self.first = 0

    def add(self, block: Float32[np.ndarray, "samples"]) -> None:
        if len(block):
            self.blocks.append(block)

    def part(self, begin: int, end: int) -> Float32[np.ndarray, "wanted"]:
        at, parts = self.first, []
        for block in self.blocks:
            parts.append(block[max(0, begin - at) : max(0, end - at)])
            at += len(block)
        return np.concatenate(parts)

    def forget(self, place: int) -> None:
        while self.blocks and self.first + len(self.blocks[0]) <= place:
            self.first += len(self.blocks.pop(0))


def _seconds(windows: list[tuple[int, int]]) -> Iterator[tuple[float, float]]:
    for begin, end in windows:
        yield begin / SAMPLE_RATE, (end - begin) / SAMPLE_RATE
