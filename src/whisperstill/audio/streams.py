"""Streams of audio, from a pipe or a microphone: blocks of 16 kHz mono as they arrive, in bounded memory.

Streams are never seeked, and a block is yielded as soon as it arrives, however short. Raw samples must be described
(`PcmFormat`), since nothing in them states their format; containers are recognised by their first bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from whisperstill.audio.audio_files import resample_blocks
from whisperstill.audio.containers import Readable, piped_blocks
from whisperstill.audio.levels import Block, Waveform
from whisperstill.errors import AudioError, SettingsError
from whisperstill.units import SAMPLE_RATE

STDIN_NAME = "standard input"
READ_CHUNK_BYTES = 1 << 16
ENCODINGS: dict[str, np.dtype[np.int16] | np.dtype[np.float32]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
FULL_SCALE_S16 = 32768.0
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 1000, 768_000
MAX_AMPLITUDE = 1000.0
"""Multiple of full scale above which float samples are in another format."""


@dataclass(frozen=True)
class PcmFormat:
    """Format of raw samples; channels are interleaved, and averaged on reading."""

    encoding: str = "s16le"
    """`s16le` (16-bit integers) or `f32le` (floats, full scale 1), little-endian."""
    sample_rate: int = SAMPLE_RATE
    """Hz."""
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


def stream_file(file: Readable, pcm: PcmFormat | None = None, name: str = "the stream") -> Iterator[Block]:
    """Blocks of 16 kHz mono from a file, which need not be seekable.

    Without `pcm` it must be a container (wav, flac, mp3, ogg, webm, ...). Raises `AudioError` if it is empty or cannot
    be decoded; a stream that breaks off yields what arrived, if its decoder allows that.
    """
    source = _ForwardOnlyFile(file)
    blocks = piped_blocks(source, name) if pcm is None else _decode_pcm(iter(source.read, b""), pcm, name)
    has_samples = False
    try:
        for block in _check_amplitude(resample_blocks(blocks), name):
            has_samples = True
            yield block
    except OSError as error:
        raise AudioError(f"cannot read {name}: {error}") from error
    except AudioError:
        if source.bytes_read:
            raise
    if not has_samples:
        raise AudioError(f"expected audio on {name}, got {'no samples' if source.bytes_read else 'nothing'}")


def stream_stdin(pcm: PcmFormat | None = None) -> Iterator[Block]:
    """`stream_file` of standard input. Raises `AudioError`, also if standard input is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(f"expected audio on {STDIN_NAME}, got a terminal: pipe it in, as in `cat a.wav | ... -`")
    yield from stream_file(sys.stdin.buffer, pcm, STDIN_NAME)


def stream_chunks(
    chunks: Iterable[bytes | np.ndarray], pcm: PcmFormat | None = None, name: str = "the chunks"
) -> Iterator[Block]:
    """Blocks of 16 kHz mono from the chunks of a microphone or socket.

    A chunk is bytes in the encoding of `pcm` (a sample may be split across chunks), or an array of floats or 16-bit
    integers, `[samples]` interleaved or `[samples, channels]`; sample rate and channels are those of `pcm` (16 kHz mono
    by default). Raises `AudioError` for any other chunk.
    """
    yield from _check_amplitude(resample_blocks(_decode_pcm(chunks, pcm or PcmFormat(), name)), name)


class _ForwardOnlyFile:
    """A file that returns the bytes available at a time and has no `seek`, so that decoders do not try to seek."""

    def __init__(self, file: Readable) -> None:
        self.read_available = getattr(file, "read1", file.read)
        self.bytes_read = 0

    def read(self, size: int = READ_CHUNK_BYTES) -> bytes:
        data: bytes = self.read_available(size if size > 0 else READ_CHUNK_BYTES) or b""
        self.bytes_read += len(data)
        return data


def _decode_pcm(chunks: Iterable[bytes | np.ndarray], pcm: PcmFormat, name: str) -> Iterator[tuple[int, Waveform]]:
    """`(sample rate, mono block)` of raw samples. Bytes of an incomplete last sample are dropped."""
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


def _check_amplitude(blocks: Iterator[Block], name: str) -> Iterator[Block]:
    """The non-empty blocks. Raises `AudioError` for samples out of range."""
    for block in blocks:
        if not len(block):
            continue
        peak = float(np.abs(block).max())
        if not peak <= MAX_AMPLITUDE:  # also catches nan
            raise AudioError(f"{name} holds samples up to {peak:g} times full scale: check the encoding")
        yield block
