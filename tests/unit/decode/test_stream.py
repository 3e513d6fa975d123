"""Streaming: segments as they become final, of files and of live audio."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill.audio.sound_activity import cut_at_silences
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.longform.window import WindowResult
from whisperstill.decode.output.transcript import Segment, Word
from whisperstill.decode.transcriber import Transcriber, make_recording
from whisperstill.errors import AudioError, SettingsError
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone

STRATEGIES = ("silence", "vad", "chunked", "sequential")


@pytest.fixture(autouse=True)
def speech_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech in every window, and one word per second."""
    detect_speech_everywhere(monkeypatch)

    def words(strategy: LongFormStrategy, result: WindowResult, until: float | None = None) -> list[Word]:
        first = -(-result.window.start // 1)
        seconds = np.arange(first, result.window.start + result.window.duration - 0.9)
        return [
            Word(second + 0.2, second + 0.6, f" w{round(second)}{'.' * (second % 10 == 9)}", 0.9)
            for second in seconds.tolist()
        ]

    monkeypatch.setattr(LongFormStrategy, "words_from", words)


@pytest.fixture
def scripted(tokenizer: Tokenizer) -> Scripted:
    """Transcribes every window as two segments."""

    def script(first: float, language: str) -> DecodingResult:
        times = [tokenizer.vocabulary.timestamp_token(seconds) for seconds in (0.5, 2.0, 2.0, 3.0)]
        word = tokenizer.encode(f" {first:.2f}")
        return decoded([times[0], *word, times[1], times[2], *word, times[3]])

    return Scripted(tokenizer, script)


@pytest.fixture
def transcriber(scripted: Scripted) -> Transcriber:
    return Transcriber(scripted)


def speech(seconds: float) -> np.ndarray:
    """Noise with another loudness every second."""
    generator = np.random.default_rng(3)
    loud = np.repeat(generator.uniform(0.05, 1, round(seconds)).astype(np.float32), 16_000)
    wave = loud * tone(round(seconds), 0.5)
    wave[0] = 0.5
    return wave


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_streamed_segments_are_those_of_the_transcript(transcriber: Transcriber, tmp_path: Path, strategy: str) -> None:
    soundfile.write(tmp_path / "a.wav", speech(130), 16_000, subtype="FLOAT")
    transcript = transcriber.transcribe(tmp_path / "a.wav", long_form=strategy, language="de")
    for batch_size in (1, 3, 8):
        segments, info = transcriber.stream(
            tmp_path / "a.wav", long_form=strategy, language="de", batch_size=batch_size
        )
        assert info.duration is None and info.language == "de" and info.language_probability == 1.0
        streamed = list(segments)
        assert streamed == list(transcript.segments)
        assert [segment.id for segment in streamed] == list(range(len(streamed)))
        assert info.duration == transcript.duration == 130.0
        assert info.options.batch_size == batch_size
    assert streamed or strategy == "vad"  # the detector may find no speech in noise


def test_segments_wait_for_earlier_windows(scripted: Scripted) -> None:
    """The first window needs fallbacks; segments of later windows wait for it."""
    script = scripted.script

    def again(first: float, language: str) -> DecodingResult:
        tried = sum(sample == first for sample, _ in scripted.decoded_requests)
        return decoded([1], logprob=-5.0) if first == 0.5 and tried < 3 else script(first, language)

    scripted.script = again
    wave = speech(95)
    segments, _ = Transcriber(scripted).stream(wave, best_of=1, batch_size=8, language="en")
    streamed = list(segments)
    order = [first for first, _ in scripted.decoded_requests]
    assert order[0] == order[-1] == 0.5 and len(order) > 3  # it finished last
    assert streamed[0].temperature > 0 and streamed[0].start == 0.5
    assert streamed == sorted(streamed, key=lambda segment: segment.start)


@pytest.mark.parametrize("strategy", ["silence", "chunked", "sequential"])
def test_live_segments_have_bounded_latency(transcriber: Transcriber, strategy: str) -> None:
    """An endless microphone: no segment comes more than 31 s after its end."""
    wave, spoken = speech(120), 0.0

    def microphone() -> Iterator[bytes]:
        nonlocal spoken
        while True:
            for block in np.split(wave, 240):
                spoken += 0.5
                yield (block * 32767).astype("<i2").tobytes()

    segments, info = transcriber.stream(microphone(), long_form=strategy, chunk_length=10, language="en")
    before = 0.0
    for _, segment in zip(range(40), segments, strict=False):
        assert segment.start >= before
        before = segment.start
        assert spoken - segment.end <= 31
    assert info.duration is None and spoken >= before


def test_a_stream_is_transcribed_as_a_file(transcriber: Transcriber, tmp_path: Path) -> None:
    wave = (speech(70) * 32767).astype("<i2")
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="PCM_16")
    expected = transcriber.transcribe(tmp_path / "a.wav")
    as_blocks = [wave[start : start + 5000] for start in range(0, len(wave), 5000)]
    for source in (wave, wave.tobytes(), as_blocks, [block.tobytes() for block in as_blocks]):
        assert transcriber.transcribe(source) == expected
        assert tuple(transcriber.stream(source)[0]) == expected.segments
    results = list(transcriber.transcribe_many([tmp_path / "a.wav", as_blocks]))
    assert results == [(tmp_path / "a.wav", expected), (Path("-"), expected)]
    assert len(expected.segments) == 2 * len(cut_at_silences([wave.astype(np.float32) / 32768]))


def test_the_language_is_known_with_the_first_segment(transcriber: Transcriber) -> None:
    wave = speech(10)
    wave[0] = -0.5
    segments, info = transcriber.stream(wave)
    assert info.language is None
    assert isinstance(next(segments), Segment)
    assert (info.language, info.language_probability) == ("de", 0.75)


def test_a_stream_that_breaks_off_yields_the_segments_before(transcriber: Transcriber) -> None:
    def breaks() -> Iterator[np.ndarray]:
        yield speech(70)
        raise AudioError("the cable")

    transcript = transcriber.transcribe(speech(70))
    segments, _ = transcriber.stream(breaks(), batch_size=8)
    streamed = []
    with pytest.raises(AudioError, match="the cable"):
        for segment in segments:
            streamed.append(segment)
    assert streamed == list(transcript.segments)


def test_errors_are_raised_at_once(transcriber: Transcriber, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="got nothing"):
        transcriber.stream(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="expected audio in the stream"):
        transcriber.stream([])
    with pytest.raises(SettingsError, match="language"):
        transcriber.stream(speech(1), language="Klingon")
    with pytest.raises(SettingsError, match="got option temprature"):
        transcriber.stream(speech(1), temprature=0)
    with pytest.raises(AudioError, match="int"):
        transcriber.transcribe(iter([1, 2]))  # type: ignore[arg-type]


def test_a_path_is_not_read_as_chunks() -> None:
    assert make_recording("a.wav").blocks is None
