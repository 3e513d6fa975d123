"""Container formats decoded by PyAV (FFmpeg): m4a, mp4, webm, mkv, amr, g722, A-law, and what libsndfile refuses.

Sample counts and timestamps are two clocks. A recording with a pause (a browser's webm) has fewer samples than its
timestamps say, so a slice found by seeking and a position found by counting would drift apart. Pauses are therefore
filled with zeros, which keeps both clocks equal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import av
import numpy as np
from jaxtyping import Float32

from whisperstill.audio.levels import Waveform
from whisperstill.errors import AudioError

RAW_FORMATS = {".al": ("alaw", 8000), ".alaw": ("alaw", 8000), ".ul": ("mulaw", 8000), ".ulaw": ("mulaw", 8000)}
"""Formats without a header: demuxer and sample rate (of telephony)."""
EXACT_DURATION_FORMATS = ("mov", "matroska", "g722")
"""Demuxers whose duration is exact, not estimated from the bit rate."""
PREROLL_SECONDS = 1.0  # decoded before a slice, so that the codec's state has settled
MIN_TIMESTAMP_GAP_SECONDS = 0.1  # a larger jump of timestamps is a pause
MAX_TIMESTAMP_GAP_SECONDS = 3600.0  # a larger one is damage


@runtime_checkable
class Readable(Protocol):
    """A source of bytes: a file, a pipe, a response."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""


def container_blocks(path: Path, begin: float, end: float | None) -> Iterator[tuple[int, Waveform]]:
    """`(sample rate, mono block)` of the first audio stream, from `begin` to `end` seconds (None: its end).

    Channels are averaged. Raises `AudioError` if the file cannot be decoded.
    """
    with _open(path) as container:
        yield from _decode(container, path, begin, end)


def piped_blocks(file: Readable, name: str) -> Iterator[tuple[int, Waveform]]:
    """`container_blocks` of a whole file that cannot seek; `name` is for errors.

    Containers with their index at the end (m4a, and mp4 unless made for streaming) cannot be read this way.
    """
    try:
        with av.open(file) as container:
            yield from _decode(container, name, 0.0, None)
    except av.FFmpegError as error:
        raise AudioError(
            f"cannot decode {name}: {error.strerror or error}; expected a container that can be read without seeking "
            "(wav, flac, mp3, ogg, webm; m4a and mp4 as files only), or give the format of raw samples"
        ) from error


def container_seconds(path: Path) -> float | None:
    """Duration stated by the container; None if it is missing or an estimate."""
    with _open(path) as container:
        stream = _audio_stream(container, path)
        if not container.format.name.startswith(EXACT_DURATION_FORMATS):
            return None
        if stream.duration:
            return float(stream.duration * stream.time_base)
        return container.duration / av.time_base if container.duration else None


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    format_, rate = RAW_FORMATS.get(path.suffix.lower(), (None, None))
    options = {"sample_rate": str(rate)} if rate else {}
    try:
        with av.open(str(path.absolute()), format=format_, options=options) as container:
            yield container
    except av.FFmpegError as error:
        raise AudioError(f"cannot decode {path}: {error.strerror or error}") from error


def _audio_stream(container: Any, path: Path | str) -> Any:
    if not container.streams.audio:
        raise AudioError(f"expected audio in {path}, got no audio stream")
    return container.streams.audio[0]


def _decode(container: Any, path: Path | str, begin: float, end: float | None) -> Iterator[tuple[int, Waveform]]:
    stream = _audio_stream(container, path)
    start_seconds = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
    seeked = begin > 2 * PREROLL_SECONDS
    if seeked:
        container.seek(int((start_seconds + begin - PREROLL_SECONDS) * av.time_base))
    resampler = None
    position: int | None = None  # position of the next sample, counted from the start of the stream
    for frame in container.decode(stream):
        # 1. With the first frame: sample rate and bounds.
        if resampler is None:
            sample_rate = frame.sample_rate
            resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=sample_rate)
            first_sample, end_sample = round(begin * sample_rate), None if end is None else round(end * sample_rate)
        # 2. Fill a jump of the timestamps with zeros.
        timestamp = None if frame.time is None else round((frame.time - start_seconds) * sample_rate)
        if position is None:
            position = (timestamp or 0) if seeked else 0
        elif timestamp is not None and timestamp - position > MIN_TIMESTAMP_GAP_SECONDS * sample_rate:
            if timestamp - position > MAX_TIMESTAMP_GAP_SECONDS * sample_rate:
                raise AudioError(f"{path} is damaged: timestamps jump by {(timestamp - position) / sample_rate:.0f} s")
            silence = np.zeros(timestamp - position, np.float32)
            yield from _crop_block(silence, position, first_sample, end_sample, sample_rate)
            position = timestamp
        # 3. Mix down and crop.
        for resampled_frame in resampler.resample(frame):
            block = resampled_frame.to_ndarray().mean(axis=0, dtype=np.float32)
            yield from _crop_block(block, position, first_sample, end_sample, sample_rate)
            position += len(block)
        if end_sample is not None and position >= end_sample:
            return


def _crop_block(
    block: Waveform, position: int, first_sample: int, end_sample: int | None, sample_rate: int
) -> Iterator[tuple[int, Float32[np.ndarray, "wanted"]]]:
    stop = len(block) if end_sample is None else end_sample - position
    wanted = block[max(0, first_sample - position) : max(0, stop)]
    if len(wanted):
        yield sample_rate, wanted
