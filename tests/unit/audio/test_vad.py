"""Speech is detected, steady sound is not, at any block size."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from whisperstill.audio import vad as voice
from whisperstill.audio.audio_files import load_audio, stream_audio
from whisperstill.audio.noise import pink_noise, white_noise
from whisperstill.audio.vad import VadOptions, VadStream, detect_speech_spans
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.units import SAMPLE_RATE

METHODS = [
    "energy",
    pytest.param("silero", marks=pytest.mark.skipif(find_spec("silero_vad") is None, reason="no silero-vad here")),
]
Spans = list[tuple[float, float]]


def share(spans: Spans, seconds: float) -> float:
    return sum(duration for _, duration in spans) / seconds


def covered(spans: Spans, low: float, high: float) -> float:
    return sum(max(0.0, min(high, start + duration) - max(low, start)) for start, duration in spans)


def span_problems(spans: Spans, seconds: float, longest: float) -> list[str]:
    """Spans that overlap the previous one, are empty, exceed `longest` seconds or end after the audio."""
    ends = [0.0, *(start + duration for start, duration in spans)]
    problems = [
        f"span at {start} s begins before {end} s, the end of the previous one"
        for (start, _), end in zip(spans, ends, strict=False)
        if not start >= end - 1e-9
    ]
    problems += [
        f"span at {start} s lasts {duration} s, expected at most {longest} s"
        for start, duration in spans
        if not 0 < duration <= longest + 1e-9
    ]
    if not ends[-1] <= seconds + 1e-9:
        problems.append(f"the last span ends at {ends[-1]} s, the audio at {seconds} s")
    return problems


def steady(kind: str, amplitude: float, seconds: int = 25) -> np.ndarray:
    samples = seconds * SAMPLE_RATE
    times, rng = np.arange(samples) / SAMPLE_RATE, np.random.default_rng(0)
    hum = {hertz: sum(np.sin(2 * np.pi * hertz * n * times) / n for n in (1, 2, 3, 5)) for hertz in (50, 60)}
    made: dict[str, Callable[[], np.ndarray]] = {
        "silence": lambda: np.zeros(samples),
        "white": lambda: white_noise(samples, rng),
        "pink": lambda: pink_noise(samples, rng),
        "rumble": lambda: np.cumsum(white_noise(samples, rng)) / 400,
        "hum 50": lambda: np.asarray(hum[50]),
        "hum 60": lambda: np.asarray(hum[60]),
        "tone": lambda: np.sin(2 * np.pi * 440 * times),
        "whistle": lambda: np.sin(2 * np.pi * 3000 * times),
        "noise in steps": lambda: np.where((times // 5) % 2 == 0, 1.0, 0.01) * white_noise(samples, rng),
        "noise that rises": lambda: 10 ** (times / 12 - 1.5) * white_noise(samples, rng),
    }
    return (amplitude * made[kind]()).astype(np.float32)


KINDS = ["silence", "white", "pink", "rumble", "hum 50", "hum 60", "tone", "whistle"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [*KINDS, "noise in steps", "noise that rises"])
@pytest.mark.parametrize("amplitude", [0.001, 0.03, 0.3])
def test_steady_sound_is_no_speech_at_any_level(method: str, kind: str, amplitude: float) -> None:
    spans = list(detect_speech_spans([steady(kind, amplitude)], method=method))
    assert share(spans, 25.0) <= 0.02


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gain", [1.0, 0.03])
def test_speech_is_detected_and_the_pauses_between_are_not(speech: Path, method: str, gain: float) -> None:
    line = json.loads((speech / "librispeech-mini-val" / "manifest.jsonl").read_text().splitlines()[0])
    utterance = load_audio(speech / "librispeech-mini-val" / line["audio"])[: 8 * SAMPLE_RATE]
    quiet = 1e-4 * white_noise(6 * SAMPLE_RATE, np.random.default_rng(1))
    audio = gain * np.concatenate([quiet, utterance, quiet, utterance, quiet])
    spans = list(detect_speech_spans([audio], method=method))
    utterance_spans = list(detect_speech_spans([gain * utterance], method=method))
    long = len(utterance) / SAMPLE_RATE
    for begin in (6.0, 12.0 + long):
        assert covered(spans, begin, begin + long) >= share(utterance_spans, 1.0) - 0.6
        assert share(utterance_spans, long) > 0.8
    for begin in (0.0, 6.0 + long, 12.0 + 2 * long):
        assert covered(spans, begin + 1.0, begin + 5.0) <= 0.5


@pytest.mark.parametrize("method", METHODS)
def test_words_of_long_recordings_are_covered(speech: Path, method: str) -> None:
    """Nearly all loud frames are inside the spans."""
    folder = speech / "longform-librispeech"
    line = json.loads((folder / "manifest.jsonl").read_text().splitlines()[1])
    audio = load_audio(folder / line["audio"], 0.0, 120.0)
    spans = list(detect_speech_spans([audio], method=method))
    levels = 10 * np.log10(np.square(audio).reshape(-1, 320).mean(axis=1) + 1e-10)
    loud = levels > np.percentile(levels, 95) - 25
    is_speech = np.zeros(len(loud), bool)
    for start, duration in spans:
        is_speech[round(start * 50) : round((start + duration) * 50)] = True
    assert (loud & ~is_speech).sum() <= 0.005 * loud.sum()


@pytest.mark.parametrize("method", METHODS)
def test_kitchen_noise(speech: Path, method: str) -> None:
    if method == "energy":
        pytest.skip("energy does not distinguish dishes from speech")
    for name in ("sc_doing_the_dishes", "sc_dude_miaowing", "sc_exercise_bike", "sb_noise1", "sb_noise3", "sb_noise4"):
        audio = load_audio(speech / "noise" / "audio" / f"{name}.flac")
        assert share(list(detect_speech_spans([audio], method=method)), len(audio) / SAMPLE_RATE) <= 0.1, name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("portion", [160, 1000, 50_001])
def test_blocks_of_any_length_give_the_same(speech: Path, method: str, portion: int) -> None:
    folder = speech / "longform-librispeech"
    path = folder / json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])["audio"]
    audio = load_audio(path, 0.0, 45.0)
    blocks = [audio[first : first + portion] for first in range(0, len(audio), portion)]
    expected = list(detect_speech_spans([audio], method=method))
    assert len(expected) > 5
    assert span_problems(expected, 45.0, 30.0) == []
    np.testing.assert_allclose(list(detect_speech_spans(blocks, method=method)), expected, atol=1e-6)
    if portion == 50_001:
        streamed = list(detect_speech_spans(stream_audio(path, 0.0, 45.0), method=method))
        np.testing.assert_allclose(streamed, expected, atol=1e-6)


class ScriptedDetector:
    """A scripted detector: the probability is the first sample of each frame."""

    hop_samples = 160

    def feed(self, block: np.ndarray) -> np.ndarray:
        """Probabilities of the frames of a block."""
        return block[::160].astype(np.float32)

    def finish(self) -> np.ndarray:
        """No frames are left at the end."""
        return np.zeros(0, np.float32)

    def is_speech(self, begin: int, end: int) -> bool:
        """Every stretch is speech."""
        return True


def detect_scripted(
    monkeypatch: pytest.MonkeyPatch, frames: np.ndarray, options: VadOptions, portion: int = 0
) -> Spans:
    """Spans of frames of 10 ms with these probabilities."""
    monkeypatch.setattr(voice, "create_detector", lambda method: ScriptedDetector())
    audio = np.repeat(frames.astype(np.float32), 160)
    portion = portion or max(1, len(audio))
    return list(
        detect_speech_spans([audio[first : first + portion] for first in range(0, len(audio), portion)], options)
    )


def on(*parts: tuple[float, float], seconds: float = 10.0) -> np.ndarray:
    frames = np.zeros(round(seconds * 100))
    for begin, end in parts:
        frames[round(begin * 100) : round(end * 100)] = 1.0
    return frames


PLAIN = VadOptions(min_silence_duration=0.3, speech_pad=0.0)


@pytest.mark.parametrize(
    ("parts", "options", "spans"),
    [
        ([(1, 2), (2.2, 3)], PLAIN, [(1, 2)]),
        ([(1, 2), (2.4, 3)], PLAIN, [(1, 1), (2.4, 0.6)]),
        ([(1, 2), (9.9, 10)], VadOptions(min_silence_duration=0.3, speech_pad=0.5), [(0.5, 2), (9.4, 0.6)]),
        ([(0, 2), (2.5, 3)], VadOptions(min_silence_duration=0.3, speech_pad=0.4), [(0, 2.25), (2.25, 1.15)]),
        ([(1, 1.1), (5, 6)], VadOptions(min_speech_duration=0.2, speech_pad=0.0), [(5, 1)]),
        ([], PLAIN, []),
    ],
    ids=[
        "short pause",
        "long pause",
        "padding ends with the audio",
        "padding meets in the pause",
        "short speech is dropped",
        "silence",
    ],
)
def test_options(
    parts: list[tuple[float, float]], options: VadOptions, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    detected = detect_scripted(monkeypatch, on(*parts), options)
    assert len(detected) == len(spans)
    if spans:
        np.testing.assert_allclose(detected, spans, atol=1e-9)


def test_speech_ends_below_a_lower_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = on((1, 2))
    frames[200:400] = 0.4  # between 0.35 and 0.5
    assert detect_scripted(monkeypatch, frames, PLAIN) == [(1.0, 3.0)]
    frames[100:200] = 0.4
    assert detect_scripted(monkeypatch, frames, PLAIN) == []


def test_long_speech_is_cut_where_it_is_quietest_before_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "create_detector", lambda method: ScriptedDetector())
    audio = np.ones(100 * SAMPLE_RATE, np.float32)
    audio[round(22.5 * SAMPLE_RATE) : round(23.0 * SAMPLE_RATE)] = 0.6  # quieter, but above the threshold
    stream = VadStream(VadOptions(speech_pad=0.0))
    first = stream.feed(audio[: 31 * SAMPLE_RATE])
    assert len(first) == 1 or stream.finalized_until > 20
    spans = first + stream.feed(audio[31 * SAMPLE_RATE :]) + stream.finish()
    assert spans[0] == (0.0, pytest.approx(22.75, abs=0.1))
    assert span_problems(spans, 100.0, 30.0) == []
    assert covered(spans, 0.0, 100.0) == pytest.approx(100.0)


@given(
    frames=st.lists(st.sampled_from([0.0, 0.0, 0.4, 1.0, 1.0]), max_size=120),
    stretch=st.integers(1, 40),
    pad=st.sampled_from([0.0, 0.1, 0.4]),
    silence=st.sampled_from([0.0, 0.05, 0.3, 2.0]),
    portion=st.sampled_from([0, 700, 16_000]),
)
@example(frames=[0.0] * 5 + [1.0] + [0.0] * 3, stretch=2, pad=0.1, silence=0.0, portion=0)
@settings(max_examples=60, deadline=None)
def test_spans_hold_all_speech_frames(
    frames: list[float], stretch: int, pad: float, silence: float, portion: int
) -> None:
    probabilities = np.repeat(np.array(frames), stretch)
    options = VadOptions(min_silence_duration=silence, speech_pad=pad, max_speech_duration=4.0)
    with pytest.MonkeyPatch.context() as patch:
        spans = detect_scripted(patch, probabilities, options, portion)
        assert spans == detect_scripted(patch, probabilities, options)
    seconds = len(probabilities) / 100
    assert span_problems(spans, seconds, 4.0) == []
    for frame in np.flatnonzero(probabilities >= 0.5):
        assert covered(spans, frame / 100, (frame + 1) / 100) > 0.0099


def test_span_problems_are_detected() -> None:
    assert span_problems([(0.0, 2.0), (1.0, 1.0)], 5.0, 30.0)
    assert span_problems([(0.0, 6.0)], 5.0, 30.0)
    assert span_problems([(0.0, 4.0)], 5.0, 3.0)


def test_memory_is_that_of_the_open_stretch() -> None:
    stream = VadStream(VadOptions(), "energy")
    block = steady("noise in steps", 0.3, 10) * np.repeat(np.tile([1.0, 0.2], 50), 1600).astype(np.float32)
    for _ in range(60):
        stream.feed(block)
        assert len(stream.powers) < 6000 and len(stream.detector.levels) < 11_000  # type: ignore[attr-defined]


def test_all_problems_with_the_options_are_listed() -> None:
    with pytest.raises(SettingsError) as caught:
        VadStream(VadOptions(1.5, -1, 0.1, -1, -1), "energy")
    for name in ("threshold", "min_speech_duration", "max_speech_duration", "min_silence_duration", "speech_pad"):
        assert name in str(caught.value)
    with pytest.raises(SettingsError, match="expected a voice activity detector of auto, silero, energy, got 'magic'"):
        VadStream(method="magic")


def test_without_the_package_silero_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperstill.audio.silero_vad.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"whisperstill\[vad\]"):
        VadStream(method="silero")
    assert type(VadStream(method="auto").detector).__name__ == "EnergyDetector"
