"""Sound activity by energy, and cuts of long recordings at their quietest places.

Only the power of each 10 ms frame is kept (8 bytes): ten hours of audio need 29 MB, as one array or as a stream; both
use the same code and give the same cuts. Energy separates sound from silence, not speech from noise: good enough to
choose a pause to cut in, no voice activity detection (`vad`).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from whisperstill.audio.audio_files import stream_audio
from whisperstill.audio.levels import (
    FRAMES_PER_SECOND,
    Block,
    Waveform,
    activity_threshold_db,
    frame_powers,
    mean_power,
    to_decibels,
)
from whisperstill.audio.reader import AudioReader
from whisperstill.errors import AudioError
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS

SMOOTHING_FRAMES = 25  # 0.25 s: longer than the closure of a stop consonant, so that cuts fall between words
QUIETEST_TOLERANCE_DB = 0.5
FLOOR_DB = -100.0
MIN_PIECE_FRACTION = 0.5  # of the maximum length, except for the last piece
MIN_LAST_PIECE_FRACTION = 0.1
MIN_ACTIVE_DBFS = -60.0
MAX_GAP_SECONDS, MIN_BURST_SECONDS = 0.3, 0.1


def cut_at_silences(blocks: Iterable[Block], max_seconds: float = WINDOW_SECONDS) -> list[tuple[float, float]]:
    """Pieces `(start, duration)` in seconds, none longer than `max_seconds`, that cover 16 kHz audio.

    Each cut is in the middle of the longest stretch, within the second half of a full piece, that is as quiet as the
    quietest place there. Empty audio has no pieces.
    """
    powers, samples = _frame_powers(blocks)
    max_frames = _max_piece_frames(max_seconds)
    pieces: list[tuple[float, float]] = []
    position = 0  # sample
    while samples - position > max_frames * HOP_SAMPLES:
        begin = position // HOP_SAMPLES
        end = _next_cut(powers, begin, max_frames) * HOP_SAMPLES
        pieces.append((position / SAMPLE_RATE, (end - position) / SAMPLE_RATE))
        position = end
    if samples > position:
        pieces.append((position / SAMPLE_RATE, (samples - position) / SAMPLE_RATE))
    return pieces


def cut_reader(reader: AudioReader, max_seconds: float = WINDOW_SECONDS) -> Iterator[tuple[float, Waveform]]:
    """The pieces of `cut_at_silences` as they are read: start in seconds and waveform; yielded audio is discarded."""
    max_frames, start = _max_piece_frames(max_seconds), 0.0
    lookahead_seconds = max_seconds * (1 + MIN_LAST_PIECE_FRACTION) + 1  # a cut depends on no more than this
    while reader.has_audio_after(start):
        waveform = reader.read(start, lookahead_seconds)
        if len(waveform) > max_frames * HOP_SAMPLES:
            powers, _ = _frame_powers([waveform])
            waveform = waveform[: _next_cut(powers, 0, max_frames) * HOP_SAMPLES]
        yield start, waveform
        start += len(waveform) / SAMPLE_RATE
        reader.discard_before(start)


def cut_file(
    path: str | Path, max_seconds: float = WINDOW_SECONDS, start: float = 0.0, duration: float | None = None
) -> list[tuple[float, float]]:
    """`cut_at_silences` of a file or a stretch of it, streamed; starts are seconds from the start of the file.

    Raises `AudioError` if it cannot be decoded or holds no audio there.
    """
    pieces = cut_at_silences(stream_audio(path, start, duration), max_seconds)
    if not pieces:
        raise AudioError(f"expected audio in {path}, got none")
    return [(start + offset, seconds) for offset, seconds in pieces]


def speech_spans(waveform: Waveform) -> list[tuple[float, float]]:
    """Stretches `(start, duration)` in seconds with sound well above the waveform's noise floor.

    The threshold is `activity_threshold_db`. Gaps shorter than 0.3 s are closed, bursts shorter than 0.1 s dropped.
    """
    powers, samples = _frame_powers([waveform])
    if not samples:
        return []
    levels = to_decibels(powers, FLOOR_DB)
    active = levels > max(MIN_ACTIVE_DBFS, activity_threshold_db(levels))
    spans: list[tuple[int, int]] = []
    for begin, end in _true_runs(active):
        if spans and begin - spans[-1][1] < MAX_GAP_SECONDS * FRAMES_PER_SECOND:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return [
        (begin * HOP_SAMPLES / SAMPLE_RATE, (min(end * HOP_SAMPLES, samples) - begin * HOP_SAMPLES) / SAMPLE_RATE)
        for begin, end in spans
        if end - begin >= MIN_BURST_SECONDS * FRAMES_PER_SECOND
    ]


def _frame_powers(blocks: Iterable[Block]) -> tuple[Float64[np.ndarray, "frames"], int]:
    """Power of every 10 ms (the last frame may be shorter), however the audio is split, and the number of samples."""
    powers, samples, remainder = [], 0, np.zeros(0, np.float32)
    for block in blocks:
        samples += len(block)
        if len(remainder):
            block = np.concatenate([remainder, block])
        complete_samples = len(block) // HOP_SAMPLES * HOP_SAMPLES
        powers.append(frame_powers(block[:complete_samples]))
        remainder = block[complete_samples:]
    if len(remainder):
        powers.append(np.array([mean_power(remainder)]))
    return np.concatenate(powers) if powers else np.zeros(0), samples


def _max_piece_frames(max_seconds: float) -> int:
    max_frames = int(max_seconds * FRAMES_PER_SECOND)
    if max_frames < 2 * SMOOTHING_FRAMES:
        raise ValueError(f"pieces must have at least {2 * SMOOTHING_FRAMES / FRAMES_PER_SECOND} s, got {max_seconds}")
    return max_frames


def _next_cut(powers: Float64[np.ndarray, "frames"], begin: int, max_frames: int) -> int:
    low = begin + int(max_frames * MIN_PIECE_FRACTION)
    high = min(begin + max_frames, len(powers) - int(max_frames * MIN_LAST_PIECE_FRACTION))
    return quietest_frame(powers, low, high)


def quietest_frame(powers: Float64[np.ndarray, "frames"], low: int, high: int) -> int:
    """Frame from `low` to `high` (inclusive) to cut at: middle of the longest quiet run, the later of equal ones."""
    half_width = SMOOTHING_FRAMES // 2
    nearby_powers = powers[max(0, low - half_width) : high + half_width + 1]
    padding = half_width - min(half_width, low), max(0, high + half_width + 1 - len(powers))
    padded = np.pad(nearby_powers, padding, mode="edge")
    smooth = to_decibels(np.convolve(padded, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), mode="valid"), FLOOR_DB)
    quiet_runs = _true_runs(smooth <= smooth.min() + QUIETEST_TOLERANCE_DB)
    begin, end = max(quiet_runs, key=lambda run: (run[1] - run[0], run[0]))
    return low + (begin + end - 1) // 2


def _true_runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
