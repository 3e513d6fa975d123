"""Where the sound is, by its energy, and where to cut a long recording.

A recording longer than a window is cut at its quietest places. Only the power of each 10 ms frame is kept (8 bytes), so
ten hours of audio need 29 MB whether they come as one array or as a stream: both go through the same code and give the
same cuts.

Energy tells sound from quiet, not speech from noise: good enough to choose a pause to cut in, no voice detector.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from whisperstill.audio.files import stream_audio
from whisperstill.audio.reader import Reader
from whisperstill.errors import AudioError
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS, exact_div

FRAMES_PER_SECOND = exact_div(SAMPLE_RATE, HOP_SAMPLES)
SMOOTH_FRAMES = 25  # 0.25 s: longer than the closure of a stop consonant, so that a cut falls between words
AS_QUIET_DB = 0.5
FLOOR_DB = -100.0
SHORTEST_FRACTION = 0.5  # a piece is at least half as long as it may be, but for the last
SHORTEST_REST_FRACTION = 0.1  # and the last is no scrap
SILENCE_DB = -60.0  # against full scale: below it nothing counts as sound
LONGEST_GAP_SECONDS, SHORTEST_BURST_SECONDS = 0.3, 0.1


def cut_at_silences(
    waveform: Float32[np.ndarray, "samples"], max_seconds: float = WINDOW_SECONDS
) -> list[tuple[float, float]]:
    """Pieces `(start, duration)` in seconds, none longer than `max_seconds`, that cover all of a 16 kHz waveform.

    Each cut lies in the middle of the longest stretch that is as quiet as the quietest place of the second half of what
    a piece may hold. The same waveform always gives the same pieces. An empty waveform gives none.
    """
    powers, samples = _frame_powers([waveform])
    return _cut(powers, samples, max_seconds)


def cut_reader(
    reader: Reader, max_seconds: float = WINDOW_SECONDS
) -> Iterator[tuple[float, Float32[np.ndarray, "samples"]]]:
    """The pieces of `cut_at_silences` and their waveforms, as they are read; what was given is forgotten."""
    longest, at = _longest(max_seconds), 0.0
    ahead = max_seconds * (1 + SHORTEST_REST_FRACTION) + 1  # what a cut depends on
    while reader.goes_beyond(at):
        waveform = reader.stretch(at, ahead)
        if len(waveform) > longest * HOP_SAMPLES:
            powers, _ = _frame_powers([waveform])
            waveform = waveform[: _cut_after(powers, 0, longest) * HOP_SAMPLES]
        yield at, waveform
        at += len(waveform) / SAMPLE_RATE
        reader.forget(at)


def cut_file(
    path: str | Path, max_seconds: float = WINDOW_SECONDS, start: float = 0.0, duration: float | None = None
) -> list[tuple[float, float]]:
    """`cut_at_silences` of a file, or of a stretch of it, streamed: starts are seconds from the file's beginning.

    Raises `AudioError` when it cannot be decoded or has nothing there.
    """
    powers, samples = _frame_powers(stream_audio(path, start, duration))
    if not samples:
        raise AudioError(f"expected sound in {path}, found none")
    return [(start + at, seconds) for at, seconds in _cut(powers, samples, max_seconds)]


def speech_spans(waveform: Float32[np.ndarray, "samples"]) -> list[tuple[float, float]]:
    """Stretches `(start, duration)` in seconds with sound well above the recording's own floor.

    The threshold is 10 dB above the 10th percentile of the frames' power, but 10 to 35 dB below the 95th. Gaps shorter
    than 0.3 s are closed, bursts shorter than 0.1 s dropped.
    """
    powers, samples = _frame_powers([waveform])
    if not samples:
        return []
    decibels = _decibels(powers)
    floor, loud = np.percentile(decibels, [10, 95])
    active = decibels > max(SILENCE_DB, min(max(floor + 10, loud - 35), loud - 10))
    spans: list[tuple[int, int]] = []
    for begin, end in _runs(active):
        if spans and begin - spans[-1][1] < LONGEST_GAP_SECONDS * FRAMES_PER_SECOND:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return [
        (begin * HOP_SAMPLES / SAMPLE_RATE, (min(end * HOP_SAMPLES, samples) - begin * HOP_SAMPLES) / SAMPLE_RATE)
        for begin, end in spans
        if end - begin >= SHORTEST_BURST_SECONDS * FRAMES_PER_SECOND
    ]


def _frame_powers(blocks: Iterable[Float32[np.ndarray, "_"]]) -> tuple[Float64[np.ndarray, "frames"], int]:
    """Mean square of every 10 ms (the last frame may be shorter), and the number of samples.

    Frames do not depend on how the audio is divided into blocks.
    """
    powers, samples, rest = [], 0, np.zeros(0, np.float32)
    for block in blocks:
        samples += len(block)
        if len(rest):
            block = np.concatenate([rest, block])
        whole = len(block) // HOP_SAMPLES * HOP_SAMPLES
        powers.append(np.square(block[:whole], dtype=np.float64).reshape(-1, HOP_SAMPLES).mean(axis=1))
        rest = block[whole:]
    if len(rest):
        powers.append(np.array([np.square(rest, dtype=np.float64).mean()]))
    return np.concatenate(powers) if powers else np.zeros(0), samples


def _cut(powers: Float64[np.ndarray, "frames"], samples: int, max_seconds: float) -> list[tuple[float, float]]:
    longest = _longest(max_seconds)
    pieces: list[tuple[float, float]] = []
    at = 0  # sample
    while samples - at > longest * HOP_SAMPLES:
        begin = at // HOP_SAMPLES
        end = _cut_after(powers, begin, longest) * HOP_SAMPLES
        pieces.append((at / SAMPLE_RATE, (end - at) / SAMPLE_RATE))
        at = end
    if samples > at:
        pieces.append((at / SAMPLE_RATE, (samples - at) / SAMPLE_RATE))
    return pieces


def _longest(max_seconds: float) -> int:
    longest = int(max_seconds * FRAMES_PER_SECOND)
    if longest < 2 * SMOOTH_FRAMES:
        raise ValueError(f"pieces must be at least {2 * SMOOTH_FRAMES / FRAMES_PER_SECOND} s long, got {max_seconds}")
    return longest


def _cut_after(powers: Float64[np.ndarray, "frames"], begin: int, longest: int) -> int:
    """The frame at which a piece that begins at frame `begin` is to end."""
    low = begin + int(longest * SHORTEST_FRACTION)
    high = min(begin + longest, len(powers) - int(longest * SHORTEST_REST_FRACTION))
    return quietest(powers, low, high)


def quietest(powers: Float64[np.ndarray, "frames"], low: int, high: int) -> int:
    """Frame in `low .. high` (both included) at whose beginning to cut; the later of two places alike."""
    half = SMOOTH_FRAMES // 2
    around = powers[max(0, low - half) : high + half + 1]
    padded = np.pad(around, (half - min(half, low), max(0, high + half + 1 - len(powers))), mode="edge")
    smooth = _decibels(np.convolve(padded, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), mode="valid"))
    begin, end = max(_runs(smooth <= smooth.min() + AS_QUIET_DB), key=lambda run: (run[1] - run[0], run[0]))
    return low + (begin + end - 1) // 2


def _decibels(powers: np.ndarray) -> np.ndarray:
    decibels: np.ndarray = 10 * np.log10(np.maximum(powers, 10 ** (FLOOR_DB / 10)))
    return decibels


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Stretches `begin .. end` (exclusive) of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
