"""Audio that comes once, from a pipe or a microphone: blocks of 16 kHz mono as they arrive, in bounded memory.

Nothing is sought and nothing is waited for: a block is given as soon as there is one, however short. Raw samples must
be described (`Pcm`), for nothing in them says what they are; everything else is recognised by its first bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import resample_blocks
from whisperstill.audio.containers import piped_blocks
from whisperstill.errors import AudioError, SettingsError
from whisperstill.units import SAMPLE_RATE

STDIN_NAME = "standard input"
READ_CHUNK_BYTES = 1 << 16
ENCODINGS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
FULL_SCALE_S16 = 32768.0
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 1000, 768_000
MAX_AMPLITUDE = 1000.0
"""Times full scale: float samples beyond it are something else."""


@dataclass(frozen=True)
class PcmFormat:
    """What raw samples are; channels are interleaved, and averaged."""

    encoding: str = "s16le"
    """`s16le` (16-bit integers) or `f32le` (floats, full scale 1), little-endian."""
    sample_rate: int = SAMPLE_RATE
    """Samples a second."""
    channels: int = 1

    def __post_init__(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        if self.encoding not in ENCODINGS:
            problems.append(f"pcm must be one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        if not MIN_SAMPLE_RATE_HZ <= self.sample_rate <= MAX_SAMPLE_RATE_HZ:
            problems.append(f"pcm_rate must be {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz, got {self.sample_rate}")
        if self.channels < 1:
            problems.append(f"pcm_channels must be at least 1, got {self.channels}")
        if problems:
            raise SettingsError("; ".join(problems))


@runtime_checkable
class Readable(Protocol):
    """What bytes can be read from: a file, a pipe, a response."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""
        ...


def stream_file(
    file: Readable, pcm: PcmFormat | None = None, name: str = "the stream"
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Blocks of 16 kHz mono from what can be read, and need not be able to seek.

    Without `pcm` it holds a container that says what it is (wav, flac, mp3, ogg, webm, ...). Raises `AudioError` when
    it is empty or cannot be decoded; one that breaks off gives what came, where its decoder allows that.
    """
    source = _ForwardOnlyFile(file)
    blocks = piped_blocks(source, name) if pcm is None else _decode_pcm(iter(source.read_chunk, b""), pcm, name)
    try:
        yield from _require_samples(_check_amplitude(resample_blocks(_require_bytes(source, blocks, name)), name), name)
    except OSError as error:
        raise AudioError(f"cannot read {name}: {error}") from error


def stream_stdin(pcm: PcmFormat | None = None) -> Iterator[Float32[np.ndarray, "_"]]:
    """`stream_file` of what is piped into the process. Raises `AudioError`, also when nothing is piped in."""
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(f"expected audio on {STDIN_NAME}, found a terminal: pipe it in, as in `cat a.wav | ... -`")
    yield from stream_file(sys.stdin.buffer, pcm, STDIN_NAME)


def stream_chunks(
    chunks: Iterable[bytes | np.ndarray], pcm: PcmFormat | None = None, name: str = "the chunks"
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Blocks of 16 kHz mono from what a microphone or a socket gives, chunk by chunk.

    A chunk is bytes of the encoding of `pcm` (a sample may be split between two), or an array of floats or 16-bit
    integers, `[samples]` interleaved or `[samples, channels]`; the rate and the channels are those of `pcm` (16 kHz
    mono by default). Raises `AudioError` for chunks that are neither.
    """
    yield from _check_amplitude(resample_blocks(_decode_pcm(chunks, pcm or PcmFormat(), name)), name)


class _ForwardOnlyFile:
    """A file that is read once, whatever is there at a time: no `seek`, so that nobody tries."""

    def __init__(self, file: Readable) -> None:
        self.read_available = getattr(file, "read1", file.read)
        self.bytes_read = 0

    def read(self, size: int = READ_CHUNK_BYTES) -> bytes:
        data: bytes = self.read_available(size if size > 0 else READ_CHUNK_BYTES) or b""
        self.bytes_read += len(data)
        return data

    def read_chunk(self) -> bytes:
        return self.read(READ_CHUNK_BYTES)


def _require_bytes(source: _ForwardOnlyFile, blocks: Iterator[Any], name: str) -> Iterator[Any]:
    """The same blocks; what fails before a single byte is an empty stream, not a damaged one."""
    try:
        yield from blocks
    except AudioError:
        if source.bytes_read:
            raise
        raise AudioError(f"expected audio on {name}, found nothing") from None
    if not source.bytes_read:
        raise AudioError(f"expected audio on {name}, found nothing")


def _decode_pcm(
    chunks: Iterable[bytes | np.ndarray], pcm: PcmFormat, name: str
) -> Iterator[tuple[int, Float32[np.ndarray, "samples"]]]:
    """Mono blocks of raw samples, each with its rate. Bytes of an unfinished sample at the end are dropped."""
    dtype = ENCODINGS[pcm.encoding]
    frame_bytes = dtype.itemsize * pcm.channels
    remainder = b""
    for chunk in chunks:
        if isinstance(chunk, bytes | bytearray | memoryview):
            data = remainder + bytes(chunk)
            complete_bytes = len(data) // frame_bytes * frame_bytes
            values, remainder = np.frombuffer(data[:complete_bytes], dtype), data[complete_bytes:]
        elif isinstance(chunk, np.ndarray) and (chunk.dtype.kind == "f" or chunk.dtype == np.int16):
            if chunk.size % pcm.channels or (chunk.ndim > 1 and chunk.shape[1:] != (pcm.channels,)):
                raise AudioError(f"expected chunks of {pcm.channels} channels from {name}, got shape {chunk.shape}")
            values = chunk.reshape(-1)
        else:
            received = f"an array of {chunk.dtype}" if isinstance(chunk, np.ndarray) else type(chunk).__name__
            raise AudioError(f"expected bytes, or arrays of floats or 16-bit integers, from {name}, got {received}")
        if len(values):
            scale = FULL_SCALE_S16 if values.dtype.kind == "i" else 1.0
            samples = (values.astype(np.float32) / np.float32(scale)).reshape(-1, pcm.channels)
            yield pcm.sample_rate, samples.mean(axis=1, dtype=np.float32)


def _check_amplitude(blocks: Iterator[Float32[np.ndarray, "_"]], name: str) -> Iterator[Float32[np.ndarray, "_"]]:
    """The blocks that hold something; samples that cannot be sound are an error."""
    for block in blocks:
        if not len(block):
            continue
        peak = float(np.abs(block).max())
        if not peak <= MAX_AMPLITUDE:  # not a number is caught as well
            raise AudioError(f"{name} holds samples that are no sound (up to {peak:g}): is the encoding right?")
        yield block


def _require_samples(blocks: Iterator[Float32[np.ndarray, "_"]], name: str) -> Iterator[Float32[np.ndarray, "_"]]:
    """The same blocks; a stream without a single sample is an error."""
    has_samples = False
    for block in blocks:
        has_samples = True
        yield block
    if not has_samples:
        raise AudioError(f"expected sound on {name}, found a length of zero")
