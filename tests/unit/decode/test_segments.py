"""Tokens of a window to segments."""

from collections.abc import Sequence

from whisperstill.decode.longform.segments import split_into_segments, unfinished_at
from whisperstill.decode.output.transcript import Segment
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import decoded


def window(tokenizer: Tokenizer, *parts: float | str, ended: bool = True, **figures: float) -> WindowTranscript:
    """Transcript of these timestamps (numbers) and texts."""
    tokens: list[int] = []
    for part in parts:
        tokens += tokenizer.encode(part) if isinstance(part, str) else [tokenizer.vocabulary.timestamp_token(part)]
    result = decoded(tokens, ended=ended, **figures)
    return WindowTranscript("en", tokenizer.decode(tokens).strip(), result)


def cut(
    tokenizer: Tokenizer, transcript: WindowTranscript, start: float = 0.0, duration: float = 10.0
) -> list[Segment]:
    return split_into_segments(transcript, start, duration, tokenizer, timestamps=True)


def spans(segments: Sequence[Segment]) -> list[tuple[float, float, str]]:
    return [(segment.start, segment.end, segment.text) for segment in segments]


def test_segments_lie_between_timestamps(tokenizer: Tokenizer) -> None:
    transcript = window(tokenizer, 0.0, " one", 2.0, 2.5, " two", 9.0)
    segments = cut(tokenizer, transcript, start=100.0)
    assert spans(segments) == [(100.0, 102.0, " one"), (102.5, 109.0, " two")]
    assert [segment.seek for segment in segments] == [10_000, 10_000]
    assert segments[0].tokens == transcript.result.tokens[: len(segments[0].tokens)]
    assert sum(len(segment.tokens) for segment in segments) == len(transcript.result.tokens)


def test_a_last_segment_without_an_end_lasts_to_the_end_of_the_window(tokenizer: Tokenizer) -> None:
    assert spans(cut(tokenizer, window(tokenizer, 1.0, " one", 2.0, 2.0, " two"))) == [
        (1.0, 2.0, " one"),
        (2.0, 10.0, " two"),
    ]


def test_padding_holds_nothing(tokenizer: Tokenizer) -> None:
    transcript = window(tokenizer, 0.0, " one", 20.0, 20.0, " two", 25.0)
    assert spans(cut(tokenizer, transcript)) == [(0.0, 10.0, " one")]


def test_empty_segments_are_left_out(tokenizer: Tokenizer) -> None:
    assert cut(tokenizer, window(tokenizer, 0.0, 5.0)) == []
    assert cut(tokenizer, window(tokenizer, 3.0, " one", 3.0)) == []
    assert cut(tokenizer, window(tokenizer)) == []


def test_without_timestamps_the_window_is_one_segment(tokenizer: Tokenizer) -> None:
    transcript = window(tokenizer, " one two")
    assert spans(split_into_segments(transcript, 5.0, 4.0, tokenizer, timestamps=False)) == [(5.0, 9.0, " one two")]


def test_where_a_transcript_breaks_off(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    opened = window(tokenizer, 0.0, " one", 4.0, 4.2)
    assert unfinished_at(opened, 10.0, vocabulary) == 4.2
    assert unfinished_at(opened, 5.0, vocabulary) is None  # less than a second is left
    assert spans(cut(tokenizer, opened)) == [(0.0, 4.0, " one")]
    assert unfinished_at(window(tokenizer, 0.0, " one", 4.0), 10.0, vocabulary) is None
    assert unfinished_at(window(tokenizer, 0.0, " one"), 10.0, vocabulary) is None
    cut_off = window(tokenizer, 0.0, " one", 4.0, 4.0, " two", ended=False)
    assert unfinished_at(cut_off, 10.0, vocabulary) == 4.0
    assert spans(cut(tokenizer, cut_off)) == [(0.0, 4.0, " one")]  # the rest is decoded again
    looping = window(tokenizer, 0.0, " one one one", ended=False)
    assert unfinished_at(looping, 10.0, vocabulary) is None  # no timestamp to resume from
    assert spans(cut(tokenizer, looping)) == [(0.0, 10.0, " one one one")]
