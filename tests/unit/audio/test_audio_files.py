"""Every audio format, read completely and in slices; unreadable files give errors of one line."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from whisperstill.audio.audio_files import has_audio_signature, load_audio, probe_duration, stream_audio
from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE

SECONDS = 6.0


def tones(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """A different pitch every half second: a shifted slice does not look like the right one."""
    time = np.arange(round(rate * seconds)) / rate
    pitch = 300 + 150 * np.floor(time * 2)
    return (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def write_soundfile(path: Path, rate: int, channels: int, subtype: str | None = None) -> None:
    data = np.stack([tones(rate)] * channels, axis=1)
    kind = {".opus": "OGG", ".ogg": "OGG"}.get(path.suffix)
    subtype = "OPUS" if path.suffix == ".opus" else subtype
    with soundfile.SoundFile(str(path), "w", rate, channels, subtype, format=kind) as file:
        for begin in range(0, len(data), 8000):  # libsndfile's vorbis encoder overflows its stack on long writes
            file.write(data[begin : begin + 8000])


def write_container(path: Path, codec: str, rate: int, channels: int, kind: str | None = None) -> None:
    layout = {1: "mono", 2: "stereo"}[channels]
    data = np.stack([tones(rate)] * channels)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for begin in range(0, data.shape[1], 1024):
            block = np.ascontiguousarray(data[:, begin : begin + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def level(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.square(waveform).mean()))


def pitch_at(waveform: np.ndarray, second: float) -> float:
    piece = waveform[round(second * SAMPLE_RATE) :][:3200]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
    return float(spectrum.argmax() * SAMPLE_RATE / len(piece))


def best_correlation(piece: np.ndarray, expected: np.ndarray, shifts: range) -> float:
    inner = expected[100:-100]
    return max(float(np.corrcoef(piece[100 + shift :][: len(inner)], inner)[0, 1]) for shift in shifts)


FORMATS = {
    "wav 8k": ("a.wav", lambda path: write_soundfile(path, 8000, 1)),
    "wav 16k stereo": ("a.wav", lambda path: write_soundfile(path, 16000, 2)),
    "wav 24k float": ("a.wav", lambda path: write_soundfile(path, 24000, 1, "FLOAT")),
    "flac 44.1k stereo": ("a.flac", lambda path: write_soundfile(path, 44100, 2)),
    "flac 11k": ("a.flac", lambda path: write_soundfile(path, 11025, 1)),
    "vorbis 22k": ("a.ogg", lambda path: write_soundfile(path, 22050, 1, "VORBIS")),
    "opus 48k stereo": ("a.opus", lambda path: write_soundfile(path, 48000, 2)),
    "opus 16k": ("a.opus", lambda path: write_soundfile(path, 16000, 1)),
    "mp3 44.1k stereo": ("a.mp3", lambda path: write_soundfile(path, 44100, 2)),
    "mp3 16k": ("a.mp3", lambda path: write_soundfile(path, 16000, 1)),
    "m4a 44.1k stereo": ("a.m4a", lambda path: write_container(path, "aac", 44100, 2)),
    "mp4 48k": ("a.mp4", lambda path: write_container(path, "aac", 48000, 1)),
    "webm 48k stereo": ("a.webm", lambda path: write_container(path, "libopus", 48000, 2)),
    "mkv 32k": ("a.mkv", lambda path: write_container(path, "flac", 32000, 1)),
    "g722": ("a.g722", lambda path: write_container(path, "g722", 16000, 1)),
    "A-law": ("a.alaw", lambda path: write_container(path, "pcm_alaw", 8000, 1, "alaw")),
    "m4a called wav": ("a.wav", lambda path: write_container(path, "aac", 16000, 1, "mp4")),
}


@pytest.mark.parametrize(("name", "write"), FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_sound(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    waveform = load_audio(path)
    assert waveform.dtype == np.float32
    assert len(waveform) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.1)
    assert probe_duration(path) == pytest.approx(SECONDS, abs=0.1)
    assert level(waveform) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    for second in (0.1, 2.1, 4.6):
        assert pitch_at(waveform, second) == pytest.approx(300 + 150 * (second // 0.5), abs=10)
    assert path.suffix in (".g722", ".alaw") or has_audio_signature(path)


@pytest.mark.parametrize(("name", "write"), FORMATS.values(), ids=FORMATS)
def test_a_slice_equals_that_part_of_the_waveform(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    full = load_audio(path)
    for start, duration in ((0.0, 1.0), (1.23, 2.0), (4.1, 1.5)):
        piece = load_audio(path, start, duration)
        expected = full[round(start * SAMPLE_RATE) :][: round(duration * SAMPLE_RATE)]
        assert len(piece) == len(expected)
        slack = 20 if path.suffix == ".webm" else 0  # Matroska's timestamps are integer milliseconds
        assert best_correlation(piece, expected, range(-slack, slack + 1)) > 0.995, start
        assert best_correlation(piece, expected, range(slack + 8, slack + 16)) < 0.99, start


def test_lossless_slices_are_equal_to_rounding(tmp_path: Path) -> None:
    write_soundfile(tmp_path / "same.wav", 16000, 1)
    write_soundfile(tmp_path / "other.wav", 44100, 1)
    for name, tolerance in (("same.wav", 0.0), ("other.wav", 2e-3)):
        full, piece = load_audio(tmp_path / name), load_audio(tmp_path / name, 2.0, 1.0)
        assert np.abs(full[32000:48000] - piece).max() <= tolerance


def test_streaming_gives_the_same_samples_in_blocks(tmp_path: Path) -> None:
    data = np.tile(tones(22050), 6)
    soundfile.write(tmp_path / "long.wav", data, 22050)
    blocks = list(stream_audio(tmp_path / "long.wav"))
    assert len(blocks) > 3
    assert max(map(len, blocks)) <= 11 * SAMPLE_RATE
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(tmp_path / "long.wav"))


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tones(16000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], axis=1), 16000, subtype="FLOAT")
    assert np.abs(load_audio(tmp_path / "a.wav")).max() == 0.0


def test_a_pause_in_the_timestamps_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in range(0, 64000, 1600):
            block = (tones(16000)[begin : begin + 1600] * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, begin + (48000 if begin >= 32000 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    waveform = load_audio(path)
    assert len(waveform) == 64000 + 48000
    assert level(waveform[32000:80000]) == 0.0
    np.testing.assert_array_equal(load_audio(path, 5.5, 1.0), waveform[88000:104000])
    np.testing.assert_array_equal(load_audio(path, 1.5, 1.0), waveform[24000:40000])


def make_empty(path: Path) -> None:
    path.touch()


def make_junk(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def make_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), 16000, format="WAV")


def make_nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a", ".webm"])
@pytest.mark.parametrize(
    ("make", "word"),
    [(make_empty, "empty"), (make_junk, "decode"), (make_nothing, "nothing")],
)
def test_unreadable_files_raise(make: Callable[[Path], None], word: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    make(path)
    for read in (load_audio, probe_duration):
        with pytest.raises(AudioError, match=word) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_zero_length_is_an_error(tmp_path: Path) -> None:
    make_no_samples(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="got no samples"):
        probe_duration(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="got none"):
        load_audio(tmp_path / "a.wav")


def test_a_video_without_sound_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for read in (load_audio, probe_duration):
        with pytest.raises(AudioError, match="no audio stream"):
            read(path)


def test_a_truncated_m4a_is_an_error(tmp_path: Path) -> None:
    write_container(tmp_path / "a.m4a", "aac", 16000, 1)
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="cannot decode"):
        load_audio(tmp_path / "cut.m4a")


def test_a_slice_beyond_the_end(tmp_path: Path) -> None:
    write_soundfile(tmp_path / "a.wav", 16000, 1)
    assert len(load_audio(tmp_path / "a.wav", 5.5, 2.0)) == 8000  # shorter than requested
    for start in (SECONDS, SECONDS + 1):
        with pytest.raises(AudioError, match="got none from"):
            load_audio(tmp_path / "a.wav", start, 1.0)
    write_container(tmp_path / "a.webm", "libopus", 48000, 1)
    with pytest.raises(AudioError, match="got none from"):
        load_audio(tmp_path / "a.webm", 60.0, 1.0)


@pytest.mark.parametrize(("start", "duration"), [(-1.0, None), (0.0, 0.0), (0.0, -1.0)])
def test_invalid_stretches(start: float, duration: float | None, tmp_path: Path) -> None:
    write_soundfile(tmp_path / "a.wav", 16000, 1)
    with pytest.raises(AudioError, match="start >= 0"):
        load_audio(tmp_path / "a.wav", start, duration)


def test_non_finite_samples(tmp_path: Path) -> None:
    data = tones(16000)
    data[1000] = np.nan
    soundfile.write(tmp_path / "a.wav", data, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="finite"):
        load_audio(tmp_path / "a.wav")


def test_recognisable_refuses_text_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("this is no sound")
    assert not has_audio_signature(tmp_path / "a.wav")
    assert not has_audio_signature(tmp_path / "b.wav")
