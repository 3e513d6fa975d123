"""Audio files to waveforms: float32, mono, 16 kHz.

libsndfile reads wav, flac, ogg, opus and mp3; PyAV reads the rest, and is tried where libsndfile fails. Audio is
decoded, mixed down and resampled in blocks: a slice of a long file costs no more than the slice, and ten hours are
streamed in the memory of a few seconds. A slice is decoded with a margin on both sides, which is cut off after
resampling, from a position where the samples of both rates coincide: it equals the same stretch of the whole file.

Two traps. libsndfile's seeking is inexact for Vorbis (near the beginning of a page), and loses the bits that an mp3
frame borrows from earlier frames: slices of these are decoded by PyAV, which yields exactly the samples of the whole
file. And a truncated mp3 decodes to a shorter array without an error: a waveform may be shorter than requested, and a
stretch without any samples raises `AudioError`.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from whisperstill.audio.containers import container_blocks, container_seconds
from whisperstill.audio.levels import Waveform
from whisperstill.errors import AudioError, NotFoundError
from whisperstill.remote_files import download
from whisperstill.units import SAMPLE_RATE

SOUNDFILE_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph", ".w64"}
)
CONTAINER_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".mov", ".webm", ".mkv", ".mka", ".aac", ".wma", ".3gp", ".amr", ".g722"}
    | {".al", ".alaw", ".ul", ".ulaw"}
)
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | CONTAINER_SUFFIXES
"""Lower-case file extensions that count as audio when a folder is searched."""

BLOCK_SECONDS = 10
RESAMPLER_MARGIN_SAMPLES = SAMPLE_RATE // 20  # 50 ms: longer than the resampler's filter
GRID_SAMPLES = SAMPLE_RATE // 25  # 40 ms are a whole number of samples at every usual rate, 11025 Hz included
INEXACT_SEEK_SUBTYPES = ("VORBIS", "MPEG_LAYER_III")
MIN_UNKNOWN_LENGTH_FRAMES = 1 << 62  # libsndfile's length of a stream that states none is of this order

_SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"\x1a\x45\xdf\xa3", b"#!AMR", b"FORM", b".snd")


def load_audio(path: str | Path, start: float = 0.0, duration: float | None = None) -> Waveform:
    """Waveform of a file, or of `duration` seconds from `start` on: 16 kHz mono, full scale 1.

    Any sample rate; channels are averaged. Shorter than requested if the file ends earlier. Raises `AudioError` if the
    file is missing, empty, cannot be decoded, or has no audio there.
    """
    blocks = list(stream_audio(path, start, duration))
    if not blocks:
        where = f"from {start:g} s on" if start else "at all"
        raise AudioError(f"expected audio in {path}, got none {where}")
    return np.concatenate(blocks)


def stream_audio(path: str | Path, start: float = 0.0, duration: float | None = None) -> Iterator[Waveform]:
    """The waveform of `load_audio` in blocks of about 10 s, none empty, in bounded memory."""
    path = _resolve_path(path)
    if start < 0 or (duration is not None and duration <= 0):
        raise AudioError(f"expected start >= 0 and duration > 0 for {path}, got {start:g} and {duration}")
    first_sample = round(start * SAMPLE_RATE)
    remaining = None if duration is None else round(duration * SAMPLE_RATE)
    lead_samples = first_sample - max(0, (first_sample - RESAMPLER_MARGIN_SAMPLES) // GRID_SAMPLES * GRID_SAMPLES)
    end = None if remaining is None else (first_sample + remaining + RESAMPLER_MARGIN_SAMPLES) / SAMPLE_RATE
    num_dropped = lead_samples
    for block in resample_blocks(_decode_blocks(path, (first_sample - lead_samples) / SAMPLE_RATE, end)):
        block, num_dropped = block[num_dropped:], max(0, num_dropped - len(block))
        if remaining is not None:
            block = block[:remaining]
            remaining -= len(block)
        if not np.isfinite(block).all():
            raise AudioError(f"{path} holds samples that are not finite numbers")
        if len(block):
            yield block
        if remaining == 0:
            return


def probe_duration(path: str | Path) -> float:
    """Duration in seconds, from the header if that is exact, else by decoding.

    Raises `AudioError` if the file is missing, empty, cannot be decoded, or holds no samples.
    """
    path = _resolve_path(path)
    seconds = _header_seconds(path)
    if seconds is None:
        seconds = sum(len(block) / rate for rate, block in _decode_blocks(path, 0.0, None))
    if seconds <= 0:
        raise AudioError(f"expected audio in {path}, got no samples")
    return seconds


def has_audio_signature(path: Path) -> bool:
    """Whether the first bytes are those of a known audio format, a cheap check before a stated duration is trusted.

    False is not conclusive (g722 has no signature); `probe_duration` is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    mpeg_sync = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head.startswith(_SIGNATURES) or head[4:8] == b"ftyp" or mpeg_sync


def _resolve_path(path: str | Path) -> Path:
    path = Path(path)
    try:
        path = download(path)
    except NotFoundError as error:
        raise AudioError(str(error)) from error
    if not path.is_file():
        raise AudioError(f"expected an audio file at {path}, got {'a folder' if path.is_dir() else 'nothing'}")
    if path.stat().st_size == 0:
        raise AudioError(f"expected audio in {path}, got an empty file")
    return path


def _decode_blocks(path: Path, begin: float, end: float | None) -> Iterator[tuple[int, Waveform]]:
    file = None
    if path.suffix.lower() not in CONTAINER_SUFFIXES:
        with suppress(soundfile.LibsndfileError):
            file = soundfile.SoundFile(str(path))
    if file is not None and begin > 0 and file.subtype in INEXACT_SEEK_SUBTYPES:
        file.close()
        file = None
    if file is None:
        yield from container_blocks(path, begin, end)
        return
    with file:
        rate = file.samplerate
        try:
            if begin > 0:
                file.seek(min(round(begin * rate), file.frames))
            remaining = MIN_UNKNOWN_LENGTH_FRAMES if end is None else round(end * rate) - round(begin * rate)
            while remaining > 0:
                block = file.read(min(remaining, BLOCK_SECONDS * rate), dtype="float32", always_2d=True)
                if not len(block):
                    return
                remaining -= len(block)
                yield rate, block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"cannot decode {path}: {error.error_string}") from error


def _header_seconds(path: Path) -> float | None:
    if path.suffix.lower() not in CONTAINER_SUFFIXES:
        with suppress(soundfile.LibsndfileError):
            info = soundfile.info(str(path))
            return info.frames / info.samplerate if info.frames < MIN_UNKNOWN_LENGTH_FRAMES else None
    return container_seconds(path)


def resample_blocks(blocks: Iterable[tuple[int, Waveform]]) -> Iterator[Float32[np.ndarray, "resampled"]]:
    """16 kHz blocks of a stream of `(sample rate, block)` with a constant rate; some may be empty."""
    resampler = None
    for rate, block in blocks:
        if rate == SAMPLE_RATE:
            yield block
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
