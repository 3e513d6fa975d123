"""Recordings of any length, many at a time."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill.audio.sound_activity import cut_file
from whisperstill.audio.speech_windows import stream_speech_windows
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform import non_overlapping, recordings as longform, strategy as strategies
from whisperstill.decode.longform.recordings import Recording, TranscriptionSession
from whisperstill.decode.longform.window import SpeechSpans
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import Transcript
from whisperstill.errors import AudioError
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone


@pytest.fixture(autouse=True)
def speech_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech in every window."""
    detect_speech_everywhere(monkeypatch)


def write(path: Path, seconds: float, first: float = 0.5) -> str:
    soundfile.write(path, tone(seconds, first), 16_000, subtype="FLOAT")
    return str(path)


@pytest.fixture
def scripted(tokenizer: Tokenizer) -> Scripted:
    """Transcribes a window as its first sample and the language, from 0.1 s to 0.9 s."""

    def script(first: float, language: str) -> DecodingResult:
        begin, end = tokenizer.vocabulary.timestamp_token(0.1), tokenizer.vocabulary.timestamp_token(0.9)
        return decoded([begin, *tokenizer.encode(f" {round(first, 2)} {language}"), end])

    return Scripted(tokenizer, script)


def test_results_are_in_order_and_unreadable_files_do_not_stop_the_others(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no audio at all")
    sources = [write(tmp_path / "a.wav", 1, 0.25), str(tmp_path / "bad.wav"), str(tmp_path / "none.wav")]
    sources += [write(tmp_path / "b.wav", 2, -0.25), write(tmp_path / "c.wav", 3, 0.75)]
    progress: list[float] = []
    recordings = [Recording(source) for source in sources]
    results = list(
        TranscriptionSession(scripted, DecodingOptions(batch_size=2)).transcribe(recordings, progress.append)
    )
    assert [recording.path for recording, _ in results] == sources
    texts = [result.text if isinstance(result, Transcript) else None for _, result in results]
    assert texts == ["0.25 en", None, None, "-0.25 de", "0.75 en"]
    assert [result for _, result in results[1:3] if not isinstance(result, AudioError)] == []
    assert scripted.batches == [2, 1]  # batched across files
    assert sum(progress) == pytest.approx(6)
    last = results[-1][1]
    assert isinstance(last, Transcript)
    assert (last.language, last.language_probability, last.duration) == ("en", 0.75, 3.0)
    assert (last.segments[0].start, last.segments[0].end) == (0.1, 0.9)


def test_segments_of_a_long_file_are_in_seconds_of_the_file(scripted: Scripted, tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", 95, -0.5)
    pieces = cut_file(path, 30)
    [(_, result)] = TranscriptionSession(scripted, DecodingOptions(batch_size=3)).transcribe([Recording(path)])
    assert isinstance(result, Transcript)
    assert [s.start for s in result.segments] == pytest.approx([start + 0.1 for start, _ in pieces], abs=2e-3)
    assert [s.id for s in result.segments] == list(range(len(pieces)))
    assert result.duration == pytest.approx(95)
    assert scripted.detected == pytest.approx([-0.5])  # in the first window only
    assert result.language == "de"
    assert [segment for segment in result.segments if not segment.text.endswith("de")] == []


def test_a_given_language_is_not_detected(scripted: Scripted, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 1, -0.5)
    [(_, result)] = TranscriptionSession(scripted).transcribe([Recording(path, language="German")])
    assert isinstance(result, Transcript)
    assert (result.language, result.language_probability) == ("de", 1.0)
    assert scripted.detected == []


def test_times_count_from_the_start_of_the_stretch(scripted: Scripted, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 70)
    [(_, short)] = TranscriptionSession(scripted).transcribe([Recording(path, start=5.0, duration=10.0)])
    [(_, long)] = TranscriptionSession(scripted).transcribe([Recording(path, start=5.0, duration=50.0)])
    assert isinstance(short, Transcript) and isinstance(long, Transcript)
    assert short.duration == 10.0 and short.segments[0].start == 0.1
    assert long.duration == pytest.approx(50.0) and len(long.segments) == 2


def test_without_timestamps_a_window_is_a_segment(tokenizer: Tokenizer, tmp_path: Path) -> None:
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" word")))
    path = write(tmp_path / "long.wav", 70)
    [(_, given)] = TranscriptionSession(scripted, DecodingOptions(without_timestamps=True)).transcribe(
        [Recording(path)]
    )
    scripted.metadata = {"trained_with_timestamps": False}
    [(_, by_training)] = TranscriptionSession(scripted).transcribe([Recording(path)])
    assert isinstance(given, Transcript) and isinstance(by_training, Transcript)
    assert given.segments == by_training.segments
    pieces = cut_file(path, 30)
    bounds = [bound for segment in given.segments for bound in (segment.start, segment.end)]
    assert bounds == pytest.approx([bound for a, d in pieces for bound in (a, a + d)], abs=1e-3)
    assert given.text == "word word word"


def test_the_remainder_of_a_window_is_decoded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A segment is opened at 4 s and not finished: the audio after 4 s becomes another window."""
    vocabulary = tokenizer.vocabulary
    wave = tone(10, 0.5)
    wave[4 * 16_000] = 0.25
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")

    def script(first: float, language: str) -> DecodingResult:
        if first == 0.5:
            times = (0.0, 3.5, 4.0)
            begin, end, again = (vocabulary.timestamp_token(time) for time in times)
            return decoded([begin, *tokenizer.encode(" one"), end, again])
        assert first == 0.25
        return decoded([vocabulary.timestamp_token(0.0), *tokenizer.encode(" two"), vocabulary.timestamp_token(6.0)])

    [(_, result)] = TranscriptionSession(Scripted(tokenizer, script)).transcribe([Recording(str(tmp_path / "a.wav"))])
    assert isinstance(result, Transcript)
    assert [(s.start, s.end, s.text) for s in result.segments] == [(0.0, 3.5, " one"), (4.0, 10.0, " two")]
    assert result.duration == 10.0


@pytest.mark.parametrize("speech_goes_on", [True, False])
def test_a_transcript_that_ends_before_the_speech_is_continued(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech_goes_on: bool
) -> None:
    """The transcript ends at 4 s; the speech goes on, or not."""
    monkeypatch.setattr(
        SpeechSpans, "speech_seconds", lambda voice, start=0.0, end=30.0: 3.0 * speech_goes_on * (start < 8)
    )
    vocabulary = tokenizer.vocabulary
    wave = tone(10, 0.5)
    wave[4 * 16_000] = 0.25
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")

    def script(first: float, language: str) -> DecodingResult:
        end = 4.0 if first == 0.5 else 6.0
        return decoded(
            [vocabulary.timestamp_token(0.0), *tokenizer.encode(f" {first}"), vocabulary.timestamp_token(end)]
        )

    [(_, result)] = TranscriptionSession(Scripted(tokenizer, script)).transcribe([Recording(str(tmp_path / "a.wav"))])
    assert isinstance(result, Transcript)
    assert result.text == ("0.5 0.25" if speech_goes_on else "0.5")


@pytest.mark.parametrize("strategy", ["silence", "vad", "chunked", "sequential"])
def test_a_file_that_breaks_off_is_transcribed_up_to_there(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    long, short = write(tmp_path / "long.wav", 100), write(tmp_path / "short.wav", 1)
    stream = longform.stream_audio

    def breaks(path: str, start: float, duration: float | None) -> Iterator[np.ndarray]:
        for count, block in enumerate(stream(path, start, duration)):
            if count == 5:
                raise AudioError("it breaks off")
            yield block

    monkeypatch.setattr(longform, "stream_audio", breaks)
    monkeypatch.setattr(strategies, "align_words", lambda *given, **more: [()])
    options = DecodingOptions(batch_size=1, long_form=strategy)
    results = list(TranscriptionSession(scripted, options).transcribe([Recording(long), Recording(short)]))
    broken, complete = (result for _, result in results)
    assert isinstance(broken, Transcript) and isinstance(complete, Transcript)
    assert broken.read_error == "it breaks off" and complete.read_error is None
    assert broken.duration == pytest.approx(50)
    assert strategy in ("chunked", "vad") or broken.segments[-1].end > 25


def test_without_order_finished_recordings_do_not_wait(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A long recording takes one slot; the short ones after it finish first."""
    begin, end = tokenizer.vocabulary.timestamp_token(0.0), tokenizer.vocabulary.timestamp_token(1.0)
    word = tokenizer.encode(" so")
    scripted = Scripted(tokenizer, lambda first, language: decoded([begin, *word, end]))
    long, *short = [write(tmp_path / f"{name}.wav", seconds, 0.5) for name, seconds in (("a", 200), ("b", 1), ("c", 1))]
    options = DecodingOptions(batch_size=2, long_form="sequential")
    recordings = [Recording(path) for path in (long, *short)]
    for in_order, expected in ((True, [long, *short]), (False, [*short, long])):
        results = TranscriptionSession(scripted, options).transcribe(recordings, in_order=in_order)
        assert [recording.path for recording, _ in results] == expected


@pytest.mark.parametrize("strategy", ["silence", "vad", "chunked", "sequential"])
def test_memory_holds_a_few_windows_however_long_the_file(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """20 minutes: no block is read long before it is decoded."""
    read = 0

    def stream(path: str, start: float, duration: float | None) -> Iterator[np.ndarray]:
        nonlocal read
        generator = np.random.default_rng(0)
        loud = np.repeat(generator.uniform(0, 1, 100).astype(np.float32), 1600)
        for _ in range(120):
            read += 1
            assert 10 * read <= 30 * (sum(scripted.batches) + 2 * 4) + 60
            yield loud * tone(10, 0.5)

    monkeypatch.setattr(longform, "stream_audio", stream)
    monkeypatch.setattr(non_overlapping, "stream_speech_windows", partial(stream_speech_windows, method="energy"))
    monkeypatch.setattr(strategies, "align_words", lambda *given, **more: [()])
    options = DecodingOptions(batch_size=4, long_form=strategy)
    [(_, result)] = TranscriptionSession(scripted, options).transcribe([Recording("endless.wav")])
    assert isinstance(result, Transcript) and read == 120
    assert len(result.segments) >= 40 or strategy in ("chunked", "vad")
    assert result.duration == pytest.approx(1200, abs=2)


def test_sequential_windows_begin_where_the_last_segment_ended(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """They are prompted with the preceding text; windows of other recordings are decoded meanwhile."""
    vocabulary, paths = tokenizer.vocabulary, []
    for name, first in (("a.wav", 0.25), ("b.wav", 0.5)):
        wave = tone(50, first)
        wave[12 * 16_000] = first + 0.125
        soundfile.write(tmp_path / name, wave, 16_000, subtype="FLOAT")
        paths.append(str(tmp_path / name))

    def script(first: float, language: str) -> DecodingResult:
        zero, word = vocabulary.timestamp_token(0.0), tokenizer.encode(f" {first}")
        if first in (0.25, 0.5):  # a complete segment, and one that is only opened
            return decoded([zero, *word, vocabulary.timestamp_token(12.0), vocabulary.timestamp_token(12.0), *word])
        return decoded([zero, *word, vocabulary.timestamp_token(29.0)])

    scripted = Scripted(tokenizer, script)
    options = DecodingOptions(long_form="sequential", batch_size=2, initial_prompt="before")
    results = [
        result for _, result in TranscriptionSession(scripted, options).transcribe([Recording(path) for path in paths])
    ]
    for result, first in zip(results, (0.25, 0.5), strict=True):
        assert isinstance(result, Transcript)
        segments = [(segment.start, segment.end, segment.text) for segment in result.segments]
        assert segments[:2] == [(0.0, 12.0, f" {first}"), (12.0, 41.0, f" {first + 0.125}")]
        assert segments[2][0] == 42.0  # the window from 12 s on was transcribed to its end
    assert scripted.batches == [2, 2, 2]
    starts = [job.prompt_tokens for first, job in scripted.decoded_requests if first == 0.375]
    first_tokens = [vocabulary.timestamp_token(0.0), *tokenizer.encode(" 0.25"), vocabulary.timestamp_token(12.0)]
    previous = [*tokenizer.encode(" before"), *first_tokens]
    assert list(starts[0][: len(previous) + 1]) == [vocabulary.start_of_previous, *previous]
    first_prompt = next(job.prompt_tokens for first, job in scripted.decoded_requests if first == 0.25)
    assert tokenizer.decode(first_prompt) == " before"


def test_a_result_that_fails_is_decoded_again_at_the_next_temperature(tokenizer: Tokenizer, tmp_path: Path) -> None:
    vocabulary = tokenizer.vocabulary
    begin, end = vocabulary.timestamp_token(0.0), vocabulary.timestamp_token(1.0)

    def script(first: float, language: str) -> DecodingResult:
        tried = sum(1 for sample, _ in scripted.decoded_requests if sample == first)
        if tried == 1:
            return decoded([begin, *tokenizer.encode(" again" * 40), end])  # a loop
        return decoded([begin, *tokenizer.encode(f" try {tried}"), end], logprob=-0.5 - (tried == 2))

    scripted = Scripted(tokenizer, script)
    path = write(tmp_path / "a.wav", 1, 0.25)
    options = DecodingOptions(best_of=2, batch_size=2)
    [(_, result)] = TranscriptionSession(scripted, options).transcribe([Recording(path)])
    assert isinstance(result, Transcript)
    assert [(segment.text, segment.temperature) for segment in result.segments] == [(" try 3", 0.2)]
    assert [job.temperature for _, job in scripted.decoded_requests] == [0.0, 0.2, 0.2]
    assert len({job.seed for _, job in scripted.decoded_requests[1:]}) == 2
    assert scripted.batches == [1]  # encoded once


def test_a_silent_window_needs_no_fallback(tokenizer: Tokenizer, tmp_path: Path) -> None:
    scripted = Scripted(tokenizer, lambda first, language: decoded([1], logprob=-2.0, no_speech=0.9))
    path = write(tmp_path / "a.wav", 1, 0.25)
    [(_, result)] = TranscriptionSession(scripted).transcribe([Recording(path)])
    assert isinstance(result, Transcript)
    assert result.text == "" and len(scripted.decoded_requests) == 1
    assert [segment.reason for segment in result.filtered_segments] == ["no_speech threshold"]


def test_recordings_may_come_from_a_generator(scripted: Scripted, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 1)

    def endless() -> Iterator[Recording]:
        while True:
            yield Recording(path)

    results = TranscriptionSession(scripted, DecodingOptions(batch_size=1)).transcribe(endless())
    assert isinstance(next(results)[1], Transcript)


def test_timestamps_are_decoded_unless_the_student_was_trained_without(scripted: Scripted) -> None:
    """With `chunked` too: without timestamps openai's checkpoints leave out most of a chunk."""

    def timestamps(**options: object) -> bool:
        return strategies.decodes_timestamps(scripted, DecodingOptions(**options))  # type: ignore[arg-type]

    for long_form in ("silence", "chunked"):
        assert timestamps(long_form=long_form) and not timestamps(long_form=long_form, without_timestamps=True)
    scripted.metadata = {"trained_with_timestamps": False}
    assert not timestamps(long_form="chunked") and timestamps(without_timestamps=False)


def test_no_recordings_give_no_results(scripted: Scripted) -> None:
    assert list(TranscriptionSession(scripted).transcribe([])) == []
