"""Prompts, hotwords, prefix and language of windows; filtered windows."""

from collections.abc import Iterator

import numpy as np
import pytest

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform import non_overlapping
from whisperstill.decode.longform.window import SpeechSpans
from whisperstill.decode.transcriber import Transcriber
from whisperstill.errors import SettingsError
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.units import MAX_PROMPT_TOKENS

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone


@pytest.fixture(autouse=True)
def speech_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech in every window; recordings are cut every ten seconds."""
    detect_speech_everywhere(monkeypatch)

    def cuts(reader: AudioReader, length: float) -> Iterator[tuple[float, np.ndarray]]:
        start = 0.0
        while reader.has_audio_after(start):
            yield start, reader.read(start, 10.0)
            start += 10.0

    monkeypatch.setattr(non_overlapping, "cut_reader", cuts)


@pytest.fixture
def scripted(tokenizer: Tokenizer) -> Scripted:
    """Transcribes a window as its language, from 0 to 10 s."""

    def script(first: float, language: str) -> DecodingResult:
        begin, end = tokenizer.vocabulary.timestamp_token(0.0), tokenizer.vocabulary.timestamp_token(10.0)
        return decoded([begin, *tokenizer.encode(f" {language}"), end, end, *tokenizer.encode(" and")])

    return Scripted(tokenizer, script)


def prompts(scripted: Scripted) -> list[str]:
    """Prompt text of each window."""
    return [scripted.tokenizer.decode(job.prompt_tokens).strip() for _, job in scripted.decoded_requests]


def test_hotwords_prompt_every_window_and_the_prefix_the_first(scripted: Scripted) -> None:
    Transcriber(scripted).transcribe(
        tone(25, 0.5), language="en", hotwords="Kiel", initial_prompt="once", prefix="so it", batch_size=1
    )
    assert prompts(scripted) == ["Kiel once so it", "Kiel once", "Kiel once"]
    first = scripted.decoded_requests[0][1].prompt_tokens
    vocabulary = scripted.vocabulary
    prefix = scripted.tokenizer.encode(" so it")
    assert first[0] == vocabulary.start_of_previous
    assert list(first[-len(prefix) :]) == prefix
    assert first[-len(prefix) - 2 : -len(prefix)] == (vocabulary.transcribe, vocabulary.timestamp_begin)
    assert [job.forced_prefix for _, job in scripted.decoded_requests] == [
        (vocabulary.timestamp_begin, *prefix),
        (),
        (),
    ]
    scripted.decoded_requests.clear()
    Transcriber(scripted).transcribe(tone(5, 0.5), language="en", prefix="so it", without_timestamps=True)
    [(_, job)] = scripted.decoded_requests
    assert job.prompt_tokens[-len(prefix) - 1] == vocabulary.no_timestamps and job.forced_prefix == ()


def test_a_translation_is_in_english(scripted: Scripted) -> None:
    spoken = Transcriber(scripted).transcribe(tone(5, 0.5), language="zh")
    translated = Transcriber(scripted).transcribe(tone(5, 0.5), language="zh", task="translate")
    assert (spoken.language, spoken.text_language) == ("zh", "zh")
    assert (translated.language, translated.text_language) == ("zh", "en")


def test_a_prompt_in_tokens_is_the_same_as_in_text(scripted: Scripted) -> None:
    for prompt in ("once", scripted.tokenizer.encode(" once")):
        Transcriber(scripted).transcribe(tone(5, 0.5), language="en", initial_prompt=prompt)
    first, second = (job.prompt_tokens for _, job in scripted.decoded_requests)
    assert first == second and prompts(scripted) == ["once", "once"]
    with pytest.raises(SettingsError, match="initial_prompt must be text or ids of 0 to"):
        Transcriber(scripted).transcribe(tone(5, 0.5), language="en", initial_prompt=[scripted.dims.vocab_size])


def test_sequential_prompts_with_the_preceding_text(scripted: Scripted) -> None:
    options = {"hotwords": "Kiel", "initial_prompt": "once", "prefix": "so it", "long_form": "sequential"}
    Transcriber(scripted).transcribe(tone(25, 0.5), language="en", **options)
    assert prompts(scripted) == ["Kiel once so it", "Kiel once en", "Kiel once en en"]
    scripted.decoded_requests.clear()
    Transcriber(scripted).transcribe(tone(25, 0.5), language="en", condition_on_previous_text=False, **options)
    assert prompts(scripted) == ["Kiel once so it", "Kiel once", "Kiel once"]
    scripted.decoded_requests.clear()
    reset = {**options, "temperature": 0.6, "best_of": 1}
    Transcriber(scripted).transcribe(tone(25, 0.5), language="en", **reset)
    assert prompts(scripted) == ["Kiel once so it", "Kiel once", "Kiel once"]
    scripted.decoded_requests.clear()
    Transcriber(scripted).transcribe(tone(25, 0.5), language="en", **reset, prompt_reset_on_temperature=0.6)
    assert prompts(scripted) == ["Kiel once so it", "Kiel once en", "Kiel once en en"]


def test_long_prompts_are_cut(scripted: Scripted) -> None:
    many = "word " * 300
    Transcriber(scripted).transcribe(tone(5, 0.5), hotwords=many, initial_prompt=many, prefix=many, language="en")
    start = scripted.decoded_requests[0][1].prompt_tokens
    prompt_length = start.index(scripted.vocabulary.start_of_transcript)
    assert prompt_length == 1 + MAX_PROMPT_TOKENS and len(start) < 448 - 100
    assert len(start) == prompt_length + 4 + MAX_PROMPT_TOKENS // 2


def test_the_language_is_detected_once_or_in_every_window(scripted: Scripted) -> None:
    wave = tone(35, 0.5)
    wave[160_000], wave[320_000], wave[480_000] = -0.5, 0.25, -0.25
    first_window = Transcriber(scripted).transcribe(wave)
    assert [segment.text for segment in first_window.segments] == [" en"] * 4
    assert scripted.detected == [0.5] and (first_window.language, first_window.language_probability) == ("en", 0.75)
    scripted.detected.clear()
    every_window = Transcriber(scripted).transcribe(wave, multilingual=True)
    assert [segment.text for segment in every_window.segments] == [" en", " de", " en", " de"]
    assert scripted.detected == [0.5, -0.5, 0.25, -0.25]
    assert every_window.language == "en"  # the first window's


def test_text_far_from_speech_is_filtered_with_its_reason(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechSpans, "detect", classmethod(lambda cls, wave: cls(((0.0, 1.0),) if wave[0] > 0 else ())))
    wave = tone(25, 0.5)
    wave[160_000], wave[320_000] = -0.5, 0.25
    vocabulary, tokenizer = scripted.vocabulary, scripted.tokenizer

    def script(first: float, language: str) -> DecodingResult:
        times = [vocabulary.timestamp_token(seconds) for seconds in (0.0, 1.0, 3.0, 5.0)]
        return decoded([times[0], *tokenizer.encode(" near"), times[1], times[2], *tokenizer.encode(" far"), times[3]])

    scripted.script = script
    transcript = Transcriber(scripted).transcribe(wave, language="en")
    assert transcript.text == "near near"
    assert [segment.id for segment in transcript.segments] == [0, 1]
    assert [(dropped.start, dropped.end, dropped.text, dropped.reason) for dropped in transcript.filtered_segments] == [
        (3.0, 5.0, "far", "far from speech"),
        (10.0, 20.0, "", "no speech"),
        (23.0, 25.0, "far", "far from speech"),
    ]
    transcribed = Transcriber(scripted).transcribe(wave, language="en", hallucination_filter=False)
    assert transcribed.text == "near far near far near far" and not transcribed.filtered_segments


@pytest.mark.parametrize("long_form", ["silence", "sequential"])
def test_more_text_than_speech_is_filtered_if_no_speech_is_likely(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, long_form: str
) -> None:
    monkeypatch.setattr(SpeechSpans, "detect", classmethod(lambda cls, wave: cls(((1.0, 1.2),))))
    vocabulary, tokenizer = scripted.vocabulary, scripted.tokenizer
    sentence = [
        vocabulary.timestamp_token(0.0),
        *tokenizer.encode(" more text than is spoken"),
        vocabulary.timestamp_token(2.0),
    ]
    transcript = {}
    for silence in (0.5, 0.9):
        scripted.script = lambda first, language, silence=silence: decoded(sentence, no_speech=silence)
        transcript[silence] = Transcriber(scripted).transcribe(tone(5, 0.5), language="en", long_form=long_form)
    assert transcript[0.5].text == "more text than is spoken" and not transcript[0.5].filtered_segments
    [gone] = transcript[0.9].filtered_segments
    assert transcript[0.9].text == "" and gone.reason == "more text than speech" and gone.text == transcript[0.5].text


@pytest.mark.parametrize(
    ("spoken", "logprob", "transcribed"), [(2.0, -1.4, True), (2.0, -1.6, False), (3.0, -1.6, True)]
)
def test_a_low_log_probability_counts_where_speech_is_sparse(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, spoken: float, logprob: float, transcribed: bool
) -> None:
    monkeypatch.setattr(SpeechSpans, "detect", classmethod(lambda cls, wave: cls(((0.0, spoken),))))
    monkeypatch.setattr(SpeechSpans, "speech_seconds", lambda voice, *stretch: 0.0 if stretch else spoken)
    vocabulary, tokenizer = scripted.vocabulary, scripted.tokenizer
    sentence = [vocabulary.timestamp_token(0.0), *tokenizer.encode(" Thank you."), vocabulary.timestamp_token(2.0)]
    scripted.script = lambda first, language: decoded(sentence, logprob=logprob)
    transcript = Transcriber(scripted).transcribe(tone(5, 0.5), language="en")
    assert transcript.text == ("Thank you." if transcribed else "")
    assert [(segment.text, segment.reason) for segment in transcript.filtered_segments] == [
        ("Thank you.", "low log-probability")
    ] * (not transcribed)
    assert (
        Transcriber(scripted).transcribe(tone(5, 0.5), language="en", hallucination_filter=False).text == "Thank you."
    )


def test_chunk_length_of_sequential_windows(scripted: Scripted) -> None:
    Transcriber(scripted).transcribe(tone(25, 0.5), language="en", long_form="sequential", chunk_length=8.0)
    assert len(scripted.decoded_requests) == 4


def test_an_unfinished_segment_is_not_filtered(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechSpans, "detect", classmethod(lambda cls, wave: cls(((0.0, 9.0),))))
    transcript = Transcriber(scripted).transcribe(tone(25, 0.5), language="en", long_form="sequential")
    assert transcript.text == "en en en" and not transcript.filtered_segments


def test_a_student_trained_without_prompts_gets_none(scripted: Scripted) -> None:
    options = {"initial_prompt": "once", "long_form": "sequential", "language": "en"}
    for metadata, given, second in (
        ({"teacher": "base"}, None, "once"),
        ({"teacher": "base", "trained_with_prompts": True}, None, "once en"),
        ({"teacher": "base"}, True, "once en"),
        ({}, None, "once en"),
        ({}, False, "once"),
    ):
        scripted.metadata = metadata
        scripted.decoded_requests.clear()
        Transcriber(scripted).transcribe(tone(15, 0.5), condition_on_previous_text=given, **options)
        assert prompts(scripted) == ["once", second]
