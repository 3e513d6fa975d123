"""Hallucination filter: repetition loops, and text without speech."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from whisperstill.decode.longform import window
from whisperstill.decode.longform.hallucination_filter import (
    MIN_LOOP_COPIES,
    MIN_LOOP_TOKENS,
    drop_tokens,
    find_repetition_loops,
    is_silent,
)
from whisperstill.decode.longform.window import MAX_DISTANCE_FROM_SPEECH_S, SpeechSpans
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

from unit.decode.scripted import decoded

VOCABULARY = Vocabulary.from_size(51865)
PHRASES = st.lists(st.integers(0, 50), min_size=1, max_size=9)


def without_loops(tokens: list[int]) -> list[int]:
    gone = set(find_repetition_loops(tokens, VOCABULARY))
    return [token for index, token in enumerate(tokens) if index not in gone]


def is_loop(tokens: list[int]) -> bool:
    """Slow twin: whether `MIN_LOOP_COPIES` copies of a phrase, of `MIN_LOOP_TOKENS` or more, are in a row anywhere."""
    for begin in range(len(tokens)):
        for period in range(1, (len(tokens) - begin) // MIN_LOOP_COPIES + 1):
            copies = 1
            phrase = tokens[begin : begin + period]
            while tokens[begin + copies * period : begin + (copies + 1) * period] == phrase:
                copies += 1
            if copies >= MIN_LOOP_COPIES and copies * period >= MIN_LOOP_TOKENS:
                return True
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40))
def test_loops_are_found_where_the_slow_twin_finds_one(tokens: list[int]) -> None:
    assert bool(find_repetition_loops(tokens, VOCABULARY)) == is_loop(tokens)


@settings(max_examples=200, deadline=None)
@given(PHRASES, st.integers(MIN_LOOP_COPIES, 30), PHRASES, PHRASES)
def test_the_first_copy_of_a_loop_stays(phrase: list[int], copies: int, before: list[int], after: list[int]) -> None:
    lead, tail = [100 + token for token in before], [200 + token for token in after]
    looped = lead + phrase * copies + tail
    if len(phrase) * copies < MIN_LOOP_TOKENS:
        copies = MIN_LOOP_TOKENS
        looped = lead + phrase * copies + tail
    rest = without_loops(looped)
    assert rest[: len(lead)] == lead and rest[len(rest) - len(tail) :] == tail
    middle = rest[len(lead) : len(rest) - len(tail)]
    assert 0 < len(middle) <= len(phrase) and middle == phrase[: len(middle)]  # less where the phrase itself repeats
    assert find_repetition_loops(rest, VOCABULARY) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 400), unique=True, max_size=60))
def test_text_without_loops_is_unchanged(tokens: list[int]) -> None:
    assert find_repetition_loops(tokens, VOCABULARY) == []
    assert find_repetition_loops([token for token in tokens for _ in range(MIN_LOOP_COPIES - 1)], VOCABULARY) == []


def test_timestamps_between_copies_are_removed_too() -> None:
    times = [VOCABULARY.timestamp_token(index / 2) for index in range(30)]
    segments = [token for index in range(6) for token in (times[index], 7, 8, 9, times[index + 1])]
    rest = without_loops(segments)
    assert [token for token in rest if token < VOCABULARY.end_of_text] == [7, 8, 9]
    assert rest[0] == times[0]


def test_three_copies_are_no_loop() -> None:
    assert find_repetition_loops([7, 8, 9, 10, 11] * 3, VOCABULARY) == []
    assert find_repetition_loops([7, 8] * MIN_LOOP_COPIES, VOCABULARY) == []  # ten tokens: too short to be sure
    assert find_repetition_loops([7, 8, 9] * MIN_LOOP_COPIES, VOCABULARY) == list(range(3, 15))


def test_drop_tokens_drops_their_statistics_too() -> None:
    result = decoded([5, 6, 7, 8])
    result.token_stats.logprob[:] = torch.arange(5.0)
    less = drop_tokens(result, [1, 2])
    assert less.tokens == (5, 8) and less.ended
    assert less.token_stats.logprob.tolist() == [0, 3, 4]  # the end token's stays
    assert len(less.token_stats.hidden) == len(less.token_stats.top_ids) == 3
    unchanged = drop_tokens(result, [])
    assert unchanged.tokens == result.tokens
    torch.testing.assert_close(unchanged.token_stats.logprob, result.token_stats.logprob, rtol=0, atol=0)


def test_far_from_speech_is_more_than_a_second_away() -> None:
    speech = SpeechSpans(((5.0, 6.0), (20.0, 21.0)))
    for start, end, far in (
        (5.2, 5.4, False),
        (6.0 + 0.9 * MAX_DISTANCE_FROM_SPEECH_S, 9.0, False),
        (6.0 + 1.1 * MAX_DISTANCE_FROM_SPEECH_S, 9.0, True),
        (1.0, 5.0 - 1.1 * MAX_DISTANCE_FROM_SPEECH_S, True),
        (1.0, 5.0 - 0.9 * MAX_DISTANCE_FROM_SPEECH_S, False),
        (0.0, 30.0, False),
    ):
        assert speech.is_far_from_speech(start, end) == far, (start, end)
    assert SpeechSpans(()).is_far_from_speech(0.0, 30.0)


def test_plausible_length_has_a_maximum_rate() -> None:
    speech = SpeechSpans(((0.0, 0.5), (3.0, 3.5)))
    assert speech.is_plausible_length("thirty characters in a second,")
    assert not speech.is_plausible_length("thirty-one characters a second.")
    assert not SpeechSpans(()).is_plausible_length("x") and SpeechSpans(()).is_plausible_length("")


def test_speech_spans_are_those_of_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SpeechSpans.detect(np.zeros(32_000, np.float32)).spans == ()
    monkeypatch.setattr(window, "detect_speech_spans", lambda blocks: [(0.5, 0.25), (1.0, 0.5)])
    assert SpeechSpans.detect(np.zeros(32_000, np.float32)).spans == ((0.5, 0.75), (1.0, 1.5))


@pytest.mark.parametrize(
    ("no_speech", "logprob", "silent"), [(0.7, -1.5, True), (0.7, -0.5, False), (0.5, -1.5, False), (0.61, -1.0, True)]
)
def test_silent_is_high_no_speech_probability_and_low_log_probability(
    tokenizer: Tokenizer, no_speech: float, logprob: float, silent: bool
) -> None:
    result = decoded(tokenizer.encode(" thank you"), no_speech=no_speech, logprob=logprob)
    assert is_silent(WindowTranscript("en", "thank you", result), DecodingOptions()) is silent
