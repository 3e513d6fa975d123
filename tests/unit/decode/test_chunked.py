"""Overlapping chunks joined by their words: what each hears of a recording whose words are known."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from whisperstill.decode.longform import chunked
from whisperstill.decode.longform.assemble import TranscriptAssembler
from whisperstill.decode.longform.window import WindowResult
from whisperstill.decode.longform.word_segments import DecodedChunk
from whisperstill.decode.output.transcript import Transcript, Word
from whisperstill.decode.transcriber import Transcriber
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, somebody_always_speaks, tone

SECONDS = 100
LENGTH = 15.0


def said() -> list[Word]:
    """A word and a half a second, all different, a full stop after every twelfth."""
    generator = np.random.default_rng(0)
    letters = "bdfgklmnprst"
    names = ["".join(letters[at] + "aeiou"[at % 5] for at in generator.integers(0, 12, 4)) for _ in range(150)]
    return [
        Word(at / 1.5 + 0.05, at / 1.5 + 0.5, f" {name}{number}{'.' * (number % 12 == 11)}", 0.9)
        for number, (at, name) in enumerate(zip(range(150), names, strict=True))
        if at / 1.5 + 0.5 < SECONDS
    ]


WORDS = said()
Hears = Callable[[float, float], list[Word]]


def inside(start: float, end: float) -> list[Word]:
    """The words that begin in a stretch."""
    return [word for word in WORDS if start <= word.start < end]


def with_bad_edges(start: float, end: float) -> list[Word]:
    """As a network hears a chunk: times are not exact, and what is cut by an edge is another word."""
    words = [replace(word, start=word.start + 0.08, end=word.end + 0.1) for word in inside(start, end)]
    if words and start > 0:
        words[0] = replace(words[0], word=" ung", probability=0.3)
    if words and end < SECONDS:
        words[-1] = replace(words[-1], word=" vex", probability=0.3)
    return words


@pytest.fixture
def hear(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Transcript]]:
    """Transcribes the recording by what each chunk hears; `starts` of the function are the windows' beginnings."""
    somebody_always_speaks(monkeypatch)
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" something")))
    starts: list[float] = []

    def run(hears: Hears, **options: object) -> Transcript:
        def words(assembler: TranscriptAssembler, heard: WindowResult, until: float | None = None) -> list[Word]:
            starts.append(round(heard.window.start, 3))
            return hears(heard.window.start, heard.window.start + (until or heard.window.duration))

        starts.clear()
        monkeypatch.setattr(TranscriptAssembler, "words_from", words)
        return Transcriber(scripted).transcribe(
            tone(SECONDS, 0.5), long_form="chunked", chunk_length=LENGTH, language="en", **options
        )

    run.starts = starts  # type: ignore[attr-defined]
    yield run


def text_of(words: list[Word]) -> str:
    return "".join(word.word for word in words).strip()


@pytest.mark.parametrize("batch_size", [1, 4, 16])
@pytest.mark.parametrize("hears", [inside, with_bad_edges])
def test_every_word_is_there_once(hear: Callable[..., Transcript], hears: Hears, batch_size: int) -> None:
    transcript = hear(hears, batch_size=batch_size, word_timestamps=True)
    assert transcript.text == text_of(WORDS)
    assert transcript.duration == SECONDS
    starts = hear.starts  # type: ignore[attr-defined]
    assert sorted(starts) == [10.0 * at for at in range(10)]  # no window more than there are chunks
    found = [word for segment in transcript.segments for word in segment.words or ()]
    assert [word.word for word in found] == [word.word for word in WORDS]
    assert [word.start for word in found] == pytest.approx([word.start for word in WORDS], abs=0.11)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    ("chunk", "left", "more"),
    [
        (30.0, 6.0, [36.0]),  # the network ends in front of the next chunk: what is left is a chunk of its own
        (30.0, 3.0, [33.0]),  # so early that the chunk before reaches further
        (30.0, 12.0, []),  # the next chunk holds all that is left
        (90.0, 4.0, [94.0]),  # the last chunk
    ],
)
def test_what_is_left_of_a_chunk_is_heard(
    hear: Callable[..., Transcript],
    monkeypatch: pytest.MonkeyPatch,
    chunk: float,
    left: float,
    more: list[float],
    batch_size: int,
) -> None:
    """And every word is there once, whether another window was needed or not."""
    monkeypatch.setattr(
        chunked, "resume_at", lambda heard, vocabulary: left if round(heard.window.start, 3) == chunk else None
    )
    assert hear(inside, batch_size=batch_size).text == text_of(WORDS)
    starts = hear.starts  # type: ignore[attr-defined]
    assert sorted(starts) == sorted([10.0 * at for at in range(10)] + more)


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    ("chunk", "hole", "more"),
    [
        (30.0, (33.0, 39.0), 1),  # before the next chunk begins
        (30.0, (36.0, 39.4), 1),  # where the chunk before reaches no more
        (90.0, (92.0, 98.0), 1),  # in the last chunk
        (30.0, (41.0, 44.5), 0),  # the next chunk holds it
        (30.0, (33.0, 35.0), 0),  # a pause as they come
    ],
)
def test_what_lies_in_a_hole_is_heard(
    hear: Callable[..., Transcript], chunk: float, hole: tuple[float, float], more: int, batch_size: int
) -> None:
    def hears(start: float, end: float) -> list[Word]:
        words = inside(start, end)
        if start != chunk:
            return words
        before = [word for word in words if word.start < hole[0]]
        before[-1] = replace(before[-1], end=(hole[0] + hole[1]) / 2)  # as it is: into the middle of the hole
        return before + [word for word in words if word.start >= hole[1]]

    transcript = hear(hears, batch_size=batch_size)
    lost = [word for word in WORDS if hole[0] <= word.start < hole[1]]
    if more or chunk < hole[0] - 10:
        assert transcript.text == text_of(WORDS)
    else:
        assert len(transcript.text.split()) == len(WORDS) - len(lost)
    starts = hear.starts  # type: ignore[attr-defined]
    assert len([start for start in starts if start % 10]) == more
    believed = hear(hears, batch_size=batch_size, hallucination_filter=False)
    assert len(believed.text.split()) == len(WORDS) - (0 if chunk < hole[0] - 10 else len(lost))


def test_segments_end_where_sentences_do(hear: Callable[..., Transcript]) -> None:
    transcript = hear(inside)
    assert all(segment.text.endswith(".") for segment in transcript.segments[:-1])
    assert [segment.id for segment in transcript.segments] == list(range(13))
    assert all(segment.words is None for segment in transcript.segments)
    assert transcript.segments[3].start == pytest.approx(WORDS[36].start)
    assert all(segment.tokens for segment in transcript.segments)


def test_without_any_mark_segments_end_in_time(hear: Callable[..., Transcript]) -> None:
    transcript = hear(lambda start, end: [replace(word, word=word.word.rstrip(".")) for word in inside(start, end)])
    assert max(segment.end - segment.start for segment in transcript.segments) <= 25
    assert len(transcript.segments) >= 4


def seam_is_lost(start: float, end: float) -> list[Word]:
    """Around 42 s the chunks hear different things at their edges; one that has it in its middle hears what is said."""
    words = inside(start, end)
    if abs((start + end) / 2 - 42.5) < 1:
        return words
    strange = [replace(word, word=f" {'xyzwqjv'[round(start / 10) % 7] * 6}") for word in words]
    return [odd if 39.5 < word.start < 45.5 else word for word, odd in zip(words, strange, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_seam_without_agreement_asks_for_one_more_window(hear: Callable[..., Transcript], batch_size: int) -> None:
    transcript = hear(seam_is_lost, batch_size=batch_size)
    starts = hear.starts  # type: ignore[attr-defined]
    more = sorted(set(starts) - {10.0 * at for at in range(10)})
    assert len(starts) == 11 and more == [42.5 - LENGTH / 2]
    assert transcript.text == text_of(WORDS)


def test_the_check_of_seams_can_fail(hear: Callable[..., Transcript]) -> None:
    """Were the window on the seam as lost as the chunks, words would be wrong."""
    transcript = hear(lambda start, end: seam_is_lost(start, end + 9))
    assert transcript.text != text_of(WORDS)


def test_a_chunk_without_words_leaves_its_part_to_its_neighbours(hear: Callable[..., Transcript]) -> None:
    transcript = hear(lambda start, end: [] if start == 30.0 else inside(start, end))
    assert set(transcript.text.split()) <= set(text_of(WORDS).split())
    lost = [word for word in WORDS if word.word.strip() not in transcript.text.split()]
    assert all(34.0 <= word.start <= 41.0 for word in lost)


def test_silence_gives_nothing(hear: Callable[..., Transcript]) -> None:
    transcript = hear(lambda start, end: [])
    assert (transcript.text, transcript.segments, transcript.duration) == ("", (), SECONDS)


def test_chunks_that_wait_hold_neither_audio_nor_states(hear: Callable[..., Transcript]) -> None:
    assert not {"window", "waveform", "states", "result"} & set(DecodedChunk.__slots__)
