"""Strategy `chunked` on a recording whose words are known, with scripted words per chunk."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from whisperstill.decode.longform import chunked
from whisperstill.decode.longform.segments import DecodedChunk
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.longform.window import WindowResult
from whisperstill.decode.output.transcript import Transcript, Word
from whisperstill.decode.transcriber import Transcriber
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone

SECONDS = 100
LENGTH = 15.0


def make_words() -> list[Word]:
    """1.5 words per second, all different, a full stop after every twelfth."""
    generator = np.random.default_rng(0)
    letters = "bdfgklmnprst"
    names = [
        "".join(letters[letter] + "aeiou"[letter % 5] for letter in generator.integers(0, 12, 4)) for _ in range(150)
    ]
    return [
        Word(index / 1.5 + 0.05, index / 1.5 + 0.5, f" {name}{number}{'.' * (number % 12 == 11)}", 0.9)
        for number, (index, name) in enumerate(zip(range(150), names, strict=True))
        if index / 1.5 + 0.5 < SECONDS
    ]


WORDS = make_words()
WordsOf = Callable[[float, float], list[Word]]


def inside(start: float, end: float) -> list[Word]:
    """The words that begin in a stretch."""
    return [word for word in WORDS if start <= word.start < end]


def with_bad_edges(start: float, end: float) -> list[Word]:
    """Words of a chunk with inexact times and wrong words at the edges, as from a model."""
    words = [replace(word, start=word.start + 0.08, end=word.end + 0.1) for word in inside(start, end)]
    if words and start > 0:
        words[0] = replace(words[0], word=" ung", probability=0.3)
    if words and end < SECONDS:
        words[-1] = replace(words[-1], word=" vex", probability=0.3)
    return words


@pytest.fixture
def transcribe(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Transcript]]:
    """Transcribes the recording from scripted words; its `starts` lists the starts of the decoded windows."""
    detect_speech_everywhere(monkeypatch)
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" something")))
    starts: list[float] = []

    def run(words_of: WordsOf, **options: object) -> Transcript:
        def words(strategy: LongFormStrategy, result: WindowResult, until: float | None = None) -> list[Word]:
            starts.append(round(result.window.start, 3))
            return words_of(result.window.start, result.window.start + (until or result.window.duration))

        starts.clear()
        monkeypatch.setattr(LongFormStrategy, "words_from", words)
        return Transcriber(scripted).transcribe(
            tone(SECONDS, 0.5), long_form="chunked", chunk_length=LENGTH, language="en", **options
        )

    run.starts = starts  # type: ignore[attr-defined]
    yield run


def text_of(words: list[Word]) -> str:
    return "".join(word.word for word in words).strip()


@pytest.mark.parametrize("batch_size", [1, 4, 16])
@pytest.mark.parametrize("words_of", [inside, with_bad_edges])
def test_every_word_is_transcribed_once(
    transcribe: Callable[..., Transcript], words_of: WordsOf, batch_size: int
) -> None:
    transcript = transcribe(words_of, batch_size=batch_size, word_timestamps=True)
    assert transcript.text == text_of(WORDS)
    assert transcript.duration == SECONDS
    starts = transcribe.starts  # type: ignore[attr-defined]
    assert sorted(starts) == [10.0 * chunk for chunk in range(10)]  # no additional windows
    words = [word for segment in transcript.segments for word in segment.words or ()]
    assert [word.word for word in words] == [word.word for word in WORDS]
    assert [word.start for word in words] == pytest.approx([word.start for word in WORDS], abs=0.11)
    assert [(a, b) for a, b in itertools.pairwise(words) if not a.end <= b.start] == []


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    ("chunk", "resume_s", "more"),
    [
        (30.0, 6.0, [36.0]),  # ends before the next chunk: the remainder is a chunk of its own
        (30.0, 3.0, [33.0]),  # ends before the end of the previous chunk
        (30.0, 12.0, []),  # the next chunk holds the remainder
        (90.0, 4.0, [94.0]),  # the last chunk
    ],
    ids=["chunk of its own", "ends within the previous chunk", "held by the next chunk", "last chunk"],
)
def test_the_remainder_of_a_chunk_is_decoded(
    transcribe: Callable[..., Transcript],
    monkeypatch: pytest.MonkeyPatch,
    chunk: float,
    resume_s: float,
    more: list[float],
    batch_size: int,
) -> None:
    """Every word is transcribed once, with or without a remainder."""
    monkeypatch.setattr(
        chunked, "resume_at", lambda result, vocabulary: resume_s if round(result.window.start, 3) == chunk else None
    )
    assert transcribe(inside, batch_size=batch_size).text == text_of(WORDS)
    starts = transcribe.starts  # type: ignore[attr-defined]
    assert sorted(starts) == sorted([10.0 * number for number in range(10)] + more)


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    ("chunk", "gap", "more"),
    [
        (30.0, (33.0, 39.0), 1),  # before the next chunk begins
        (30.0, (36.0, 39.4), 1),  # beyond the end of the previous chunk
        (90.0, (92.0, 98.0), 1),  # in the last chunk
        (30.0, (41.0, 44.5), 0),  # the next chunk holds it
        (30.0, (33.0, 35.0), 0),  # an ordinary pause
    ],
    ids=["before the next chunk", "after the previous chunk", "last chunk", "held by the next chunk", "ordinary pause"],
)
def test_audio_in_an_untranscribed_gap_is_decoded_again(
    transcribe: Callable[..., Transcript], chunk: float, gap: tuple[float, float], more: int, batch_size: int
) -> None:
    def words_of(start: float, end: float) -> list[Word]:
        words = inside(start, end)
        if start != chunk:
            return words
        before = [word for word in words if word.start < gap[0]]
        before[-1] = replace(
            before[-1], end=(gap[0] + gap[1]) / 2
        )  # a word that ends in the middle of the gap, as models give
        return before + [word for word in words if word.start >= gap[1]]

    transcript = transcribe(words_of, batch_size=batch_size)
    lost = [word for word in WORDS if gap[0] <= word.start < gap[1]]
    if more or chunk < gap[0] - 10:
        assert transcript.text == text_of(WORDS)
    else:
        assert len(transcript.text.split()) == len(WORDS) - len(lost)
    starts = transcribe.starts  # type: ignore[attr-defined]
    assert len([start for start in starts if start % 10]) == more
    unfiltered = transcribe(words_of, batch_size=batch_size, hallucination_filter=False)
    assert len(unfiltered.text.split()) == len(WORDS) - (0 if chunk < gap[0] - 10 else len(lost))


def test_segments_end_at_sentence_ends(transcribe: Callable[..., Transcript]) -> None:
    transcript = transcribe(inside)
    assert [segment for segment in transcript.segments[:-1] if not segment.text.endswith(".")] == []
    assert [segment.id for segment in transcript.segments] == list(range(13))
    assert [segment for segment in transcript.segments if segment.words is not None] == []
    assert transcript.segments[3].start == pytest.approx(WORDS[36].start)
    assert [segment for segment in transcript.segments if not segment.tokens] == []


def test_segments_without_punctuation_have_a_maximum_length(transcribe: Callable[..., Transcript]) -> None:
    transcript = transcribe(
        lambda start, end: [replace(word, word=word.word.rstrip(".")) for word in inside(start, end)]
    )
    assert max(segment.end - segment.start for segment in transcript.segments) <= 25
    assert len(transcript.segments) >= 4


def wrong_near_42_s(start: float, end: float) -> list[Word]:
    """Around 42 s chunks have wrong words, except a chunk centred there."""
    words = inside(start, end)
    if abs((start + end) / 2 - 42.5) < 1:
        return words
    strange = [replace(word, word=f" {'xyzwqjv'[round(start / 10) % 7] * 6}") for word in words]
    return [odd if 39.5 < word.start < 45.5 else word for word, odd in zip(words, strange, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_overlap_without_a_match_requests_a_centred_window(
    transcribe: Callable[..., Transcript], batch_size: int
) -> None:
    transcript = transcribe(wrong_near_42_s, batch_size=batch_size)
    starts = transcribe.starts  # type: ignore[attr-defined]
    more = sorted(set(starts) - {10.0 * number for number in range(10)})
    assert len(starts) == 11 and more == [42.5 - LENGTH / 2]
    assert transcript.text == text_of(WORDS)


def test_the_check_of_centred_windows_can_fail(transcribe: Callable[..., Transcript]) -> None:
    """Negative control: with a wrong centred window the text is wrong."""
    transcript = transcribe(lambda start, end: wrong_near_42_s(start, end + 9))
    assert transcript.text != text_of(WORDS)


def test_neighbours_cover_a_chunk_without_words(transcribe: Callable[..., Transcript]) -> None:
    transcript = transcribe(lambda start, end: [] if start == 30.0 else inside(start, end))
    assert set(transcript.text.split()) <= set(text_of(WORDS).split())
    lost = [word for word in WORDS if word.word.strip() not in transcript.text.split()]
    assert [word for word in lost if not 34.0 <= word.start <= 41.0] == []


def test_chunks_without_words_give_an_empty_transcript(transcribe: Callable[..., Transcript]) -> None:
    transcript = transcribe(lambda start, end: [])
    assert (transcript.text, transcript.segments, transcript.duration) == ("", (), SECONDS)


def test_pending_chunks_hold_no_audio_and_no_states(transcribe: Callable[..., Transcript]) -> None:
    assert not {"window", "waveform", "states", "result"} & set(DecodedChunk.__slots__)
