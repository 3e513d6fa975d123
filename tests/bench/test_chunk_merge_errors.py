"""Counts of duplicated and lost words at merge points."""

import pytest
from chunk_merge_errors import (
    MergeErrors,
    Reference,
    count_errors_against_windows,
    count_errors_near,
    excess_error_rate,
    find_recognized_words,
    locate_errors,
    locate_errors_in_recording,
    midpoints_between,
    timed_words,
)
from hypothesis import given, strategies as st

from whisperstill.decode.output.transcript import Word
from whisperstill.errors import SettingsError

TEXT = "the quick brown fox jumps over the lazy dog and runs far away from here to the old barn"


def timed(text: str, start: float = 0.0) -> list[Word]:
    """One word a second."""
    return [Word(start + i, start + i + 0.8, f" {word}", 0.9) for i, word in enumerate(text.split())]


def reference(text: str = TEXT) -> Reference:
    return Reference.from_utterances([(text, 0.0, float(len(text.split())))], "en")


def kinds(hypothesis: str, text: str = TEXT) -> list[tuple[str, str]]:
    return [(error.kind, error.word) for error in locate_errors_in_recording(timed(hypothesis), reference(text), "en")]


def test_a_correct_transcript_has_no_errors() -> None:
    assert kinds(TEXT) == []
    assert kinds(TEXT.upper().replace(" ", ", ")) == []


def test_duplicated_inserted_deleted() -> None:
    assert kinds(TEXT.replace("jumps", "jumps jumps")) == [("duplicated", "jumps")]
    assert [kind for kind, _ in kinds(TEXT.replace("jumps over", "jumps over jumps over"))] == ["duplicated"] * 2
    assert kinds(TEXT.replace("jumps", "jumps high")) == [("inserted", "high")]
    assert kinds(TEXT.replace("jumps over ", "")) == [("deleted", "jumps"), ("deleted", "over")]


def test_substitutions_do_not_count() -> None:
    assert kinds(TEXT.replace("lazy", "crazy")) == []


def test_repetition_in_the_reference_is_no_duplicate() -> None:
    text = "no no no he said very very loudly"
    assert kinds(text, text) == []
    assert kinds("no no no no he said very very loudly", text) == [("duplicated", "no")]
    assert kinds("no no he said very very loudly", text) == [("deleted", "no")]


@given(st.integers(0, 14), st.integers(1, 4))
def test_duplicates_are_found_for_any_alignment(start: int, size: int) -> None:
    words = "a b c d e f g h i j k l m n o p q r s t u".split()
    hypothesis = words[: start + size] + words[start:]
    errors = locate_errors([(word, float(i)) for i, word in enumerate(hypothesis)], words)
    assert [error.kind for error in errors] == ["duplicated"] * size


def test_error_times() -> None:
    errors = locate_errors_in_recording(timed(TEXT.replace("jumps over ", "")), reference(), "en")
    assert [error for error in errors if not 3.4 < error.time < 4.4] == []  # between fox and the
    assert [error.time for error in locate_errors([("a", 0.0), ("c", 2.0)], [("a", 0.1), ("b", 1.1), ("c", 2.1)])] == [
        1.1
    ]
    numbers = timed_words(timed("he had twenty five dollars"), "en")
    assert [word for word, _ in numbers] == "he had $25".split()
    assert 2.0 < numbers[-1][1] < 5.0


def test_only_errors_near_merge_points_count() -> None:
    errors = locate_errors_in_recording(timed(TEXT.replace("jumps over ", "")), reference(), "en")
    assert count_errors_near(errors, [4.0, 12.0], 2.0) == MergeErrors(2, 0, 0, 2)
    assert count_errors_near(errors, [12.0], 2.0) == MergeErrors(1)
    assert count_errors_near(errors, [4.0], 2.0, {4}).deleted_by_merge == 1
    assert midpoints_between([1.0, 3.0, 7.0]) == [2.0, 5.0]
    assert midpoints_between([1.0]) == []


def test_words_that_a_chunk_recognized() -> None:
    words = timed(TEXT)
    transcript = reference()
    chunks = [(0.0, 10.0, words[:10]), (8.0, 19.0, words[12:])]
    assert find_recognized_words(chunks, transcript, "en") == set(range(10)) | set(range(12, 19))
    assert find_recognized_words([(0.0, 19.0, timed("lazy"))], transcript, "en") == set()  # may be chance


def test_counts_add_up() -> None:
    total = MergeErrors(2, 1, 1, 0) + MergeErrors(2, 0, 1, 2, 1)
    assert total == MergeErrors(4, 1, 2, 2, 1)
    assert total.error_rate == 75.0
    assert total.merge_error_rate == 50.0
    assert MergeErrors().error_rate == MergeErrors().merge_error_rate == 0.0
    assert excess_error_rate(total, MergeErrors(4, 0, 0, 1)) == 50.0
    with pytest.raises(SettingsError, match="two merge points at least"):
        excess_error_rate(total, MergeErrors())


def test_windows_as_reference() -> None:
    words = timed(TEXT)
    window = words[3:15]
    assert count_errors_against_windows(words, [(9.0, window)], 3.0, "en") == MergeErrors(1)
    deleted = words[:8] + words[10:]
    assert count_errors_against_windows(deleted, [(9.0, window)], 3.0, "en") == MergeErrors(1, deleted=2)
    far = words[:5] + words[6:]  # beyond the radius
    assert count_errors_against_windows(far, [(9.0, window)], 3.0, "en") == MergeErrors(1)


def test_languages_without_spaces() -> None:
    text = "今日は良い天気です"
    hypothesis = [Word(i, i + 0.8, character, 0.9) for i, character in enumerate("今日はは良い気です")]
    errors = locate_errors_in_recording(hypothesis, Reference.from_utterances([(text, 0.0, 9.0)], "ja"), "ja")
    assert [(error.kind, error.word) for error in errors] == [("duplicated", "は"), ("deleted", "天")]
