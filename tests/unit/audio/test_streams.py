"""A pipe gives the audio of the file; invalid samples are an error."""

import io
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.streams import PcmFormat, stream_chunks, stream_file, stream_stdin
from whisperstill.errors import AudioError, SettingsError


class Pipe(io.RawIOBase):
    """Bytes in portions of any length, not seekable."""

    def __init__(self, content: bytes, portion: int = 1000) -> None:
        self.content, self.portion, self.position = content, portion, 0

    def read(self, size: int = -1) -> bytes:
        """The next portion."""
        chunk = self.content[self.position : self.position + min(self.portion, size if size > 0 else self.portion)]
        self.position += len(chunk)
        return chunk


def concatenate_blocks(blocks: Iterator[np.ndarray]) -> np.ndarray:
    chunks = list(blocks)
    assert [block for block in chunks if not (len(block) and block.dtype == np.float32 and block.ndim == 1)] == []
    return np.concatenate(chunks)


def sound(seconds: float = 2.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_pipe_gives_the_audio_of_the_file(tmp_path: Path, ending: str, rate: int, channels: int) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, sound(2.0, rate, channels), rate)
    piped = concatenate_blocks(stream_file(Pipe(path.read_bytes())))
    stored = load_audio(path)
    length = min(len(piped), len(stored))
    assert abs(len(piped) - len(stored)) <= (2500 if ending == "mp3" else 20)  # an mp3 begins with a delay
    if ending in ("wav", "flac"):
        np.testing.assert_allclose(piped[:length], stored[:length], atol=2e-4)


@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_raw_samples_split_anywhere(portion: int) -> None:
    wave = (sound(0.05, channels=2) * 32767).astype("<i2")
    expected = (wave.astype(np.float32) / 32768).mean(axis=1)
    samples = concatenate_blocks(stream_file(Pipe(wave.tobytes() + b"\x01", portion), PcmFormat("s16le", 16_000, 2)))
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    floats = sound(0.05)[:, 0]
    np.testing.assert_array_equal(
        concatenate_blocks(stream_file(Pipe(floats.tobytes(), portion), PcmFormat("f32le"))), floats
    )


def test_raw_samples_of_another_rate_are_resampled_as_a_file_is(tmp_path: Path) -> None:
    wave = sound(1.5, 8000)[:, 0]
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    samples = concatenate_blocks(stream_file(Pipe(wave.tobytes(), 333), PcmFormat("f32le", 8000)))
    stored = load_audio(tmp_path / "a.wav")
    assert len(samples) == len(stored)
    np.testing.assert_allclose(samples, stored, atol=1e-5)


def test_chunks_of_a_microphone() -> None:
    wave = sound(0.2)[:, 0]
    integers = (wave * 32767).astype(np.int16)
    np.testing.assert_array_equal(concatenate_blocks(stream_chunks(np.array_split(wave, 9))), wave)
    np.testing.assert_array_equal(concatenate_blocks(stream_chunks(np.array_split(wave.astype(np.float64), 9))), wave)
    for chunks in (np.array_split(integers, 9), [part.tobytes() for part in np.array_split(integers, 9)]):
        np.testing.assert_allclose(concatenate_blocks(stream_chunks(chunks)), integers / 32768, atol=1e-7)
    two = np.stack([wave, -wave], axis=1)
    assert np.abs(concatenate_blocks(stream_chunks([two], PcmFormat(channels=2)))).max() == 0
    assert list(stream_chunks([])) == []


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros(4, np.int32), "got an array of int32"),
        (np.zeros((4, 2), np.float32), "expected chunks of 1 channels"),
        (np.array([np.nan], np.float32), "times full scale"),
        (np.array([5e8], np.float32), "check the encoding"),
    ],
    ids=["int32", "two channels", "nan", "integers as floats"],
)
def test_invalid_chunks(chunk: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        list(stream_chunks([chunk]))


@pytest.mark.parametrize("pcm", [None, PcmFormat()], ids=["container", "raw samples"])
def test_an_empty_pipe(pcm: PcmFormat | None) -> None:
    with pytest.raises(AudioError, match="got nothing"):
        list(stream_file(Pipe(b""), pcm))


def test_junk_and_an_empty_container(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot decode the stream"):
        list(stream_file(Pipe(b"not audio at all" * 500)))
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match=r"got no samples|cannot decode"):
        list(stream_file(Pipe((tmp_path / "a.wav").read_bytes())))


def test_all_problems_with_the_format_are_listed() -> None:
    with pytest.raises(SettingsError) as caught:
        PcmFormat("u8", 10, 0)
    assert [name for name in ("pcm must be", "pcm_rate", "pcm_channels") if name not in str(caught.value)] == []


def test_blocks_come_while_the_pipe_is_open() -> None:
    """A reader that waits for the end of the stream would never return here."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb") as pen:
        blocks = stream_file(file, PcmFormat())
        for _ in range(3):
            pen.write(np.ones(160, "<i2").tobytes())
            pen.flush()
            assert len(next(blocks)) == 160
        pen.close()
        assert list(blocks) == []


def test_a_container_comes_while_the_pipe_is_open(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(60.0), 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    reading, writing = os.pipe()
    release = threading.Event()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pen:
            pen.write(content[: len(content) // 2])
            pen.flush()
            release.wait(60)
            pen.write(content[len(content) // 2 :])

    writer = threading.Thread(target=feed)
    writer.start()
    with os.fdopen(reading, "rb") as file:
        blocks = stream_file(file)
        first = next(blocks)
        release.set()
        assert len(first) + len(concatenate_blocks(blocks)) == 60 * 16_000
    writer.join()


def test_memory_does_not_grow_with_the_stream() -> None:
    class Endless(io.RawIOBase):
        remaining = 40 * 60 * 32_000  # 40 minutes, 77 MB

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.remaining)
            self.remaining -= size
            return bytes(size)

    tracemalloc.start()
    assert sum(len(block) for block in stream_file(Endless(), PcmFormat())) == 40 * 60 * 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_a_stream_that_cannot_be_read_on_is_an_error() -> None:
    class Broken(Pipe):
        def read(self, size: int = -1) -> bytes:
            """Fails after some portions."""
            if self.position > 20_000:
                raise IsADirectoryError("the device is gone")
            return super().read(size)

    stored = io.BytesIO()
    soundfile.write(stored, sound(2.0), 16_000, format="WAV", subtype="PCM_16")
    for pcm in (None, PcmFormat()):
        with pytest.raises(AudioError, match="the stream"):
            list(stream_file(Broken(stored.getvalue()), pcm))


def test_a_terminal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(AudioError, match="got a terminal"):
        list(stream_stdin())


def test_standard_input_of_a_process(tmp_path: Path, root: Path) -> None:
    soundfile.write(tmp_path / "a.flac", sound(3.0), 16_000)
    code = "from whisperstill.audio.streams import stream_stdin; print(sum(map(len, stream_stdin())))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=(tmp_path / "a.flac").read_bytes(),
        capture_output=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    assert int(done.stdout) == 48_000
