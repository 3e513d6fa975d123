"""Doubled and lost words at seams, counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisperstill.decode.transcript import Word
from whisperstill.errors import SettingsError
from whisperstill.evaluate.seams import (
    Reference,
    SeamErrors,
    against_reference,
    against_windows,
    between_seams,
    count_near,
    excess,
    heard_by,
    locate,
    timed_words,
)

TEXT = "the quick brown fox jumps over the lazy dog and runs far away from here to the old barn"


def timed(text: str, start: float = 0.0) -> list[Word]:
    """One word a second."""
    return [Word(start + i, start + i + 0.8, f" {word}", 0.9) for i, word in enumerate(text.split())]


def reference(text: str = TEXT) -> Reference:
    return Reference.of([(text, 0.0, float(len(text.split())))], "en")


def kinds(heard: str, text: str = TEXT) -> list[tuple[str, str]]:
    return [(one.kind, one.word) for one in against_reference(timed(heard), reference(text), "en")]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert kinds(TEXT) == []
    assert kinds(TEXT.upper().replace(" ", ", ")) == []


def test_doubled_inserted_lost() -> None:
    assert kinds(TEXT.replace("jumps", "jumps jumps")) == [("doubled", "jumps")]
    assert [kind for kind, _ in kinds(TEXT.replace("jumps over", "jumps over jumps over"))] == ["doubled"] * 2
    assert kinds(TEXT.replace("jumps", "jumps high")) == [("inserted", "high")]
    assert kinds(TEXT.replace("jumps over ", "")) == [("lost", "jumps"), ("lost", "over")]


def test_a_substitution_is_neither() -> None:
    assert kinds(TEXT.replace("lazy", "crazy")) == []


def test_what_was_said_twice_is_not_doubled() -> None:
    text = "no no no he said very very loudly"
    assert kinds(text, text) == []
    assert kinds("no no no no he said very very loudly", text) == [("doubled", "no")]
    assert kinds("no no he said very very loudly", text) == [("lost", "no")]


@given(st.integers(0, 14), st.integers(1, 4))
def test_a_doubled_phrase_is_doubled_wherever_the_alignment_puts_it(start: int, size: int) -> None:
    words = "a b c d e f g h i j k l m n o p q r s t u".split()
    heard = words[: start + size] + words[start:]
    found = locate([(word, float(i)) for i, word in enumerate(heard)], words)
    assert [one.kind for one in found] == ["doubled"] * size


def test_times() -> None:
    found = against_reference(timed(TEXT.replace("jumps over ", "")), reference(), "en")
    assert all(3.4 < one.time < 4.4 for one in found)  # between fox and the
    assert [one.time for one in locate([("a", 0.0), ("c", 2.0)], [("a", 0.1), ("b", 1.1), ("c", 2.1)])] == [1.1]
    numbers = timed_words(timed("he had twenty five dollars"), "en")
    assert [word for word, _ in numbers] == "he had $25".split()
    assert 2.0 < numbers[-1][1] < 5.0


def test_only_what_is_near_counts() -> None:
    found = against_reference(timed(TEXT.replace("jumps over ", "")), reference(), "en")
    assert count_near(found, [4.0, 12.0], 2.0) == SeamErrors(2, 0, 0, 2)
    assert count_near(found, [12.0], 2.0) == SeamErrors(1)
    assert count_near(found, [4.0], 2.0, {4}).avoidable == 1
    assert between_seams([1.0, 3.0, 7.0]) == [2.0, 5.0]
    assert between_seams([1.0]) == []


def test_what_a_chunk_heard_was_avoidable() -> None:
    words = timed(TEXT)
    spoken = reference()
    chunks = [(0.0, 10.0, words[:10]), (8.0, 19.0, words[12:])]
    assert heard_by(chunks, spoken, "en") == set(range(10)) | set(range(12, 19))
    assert heard_by([(0.0, 19.0, timed("lazy"))], spoken, "en") == set()  # a lone hit says nothing


def test_counts_add_and_rates_are_formed_at_the_end() -> None:
    total = SeamErrors(2, 1, 1, 0) + SeamErrors(2, 0, 1, 2, 1)
    assert total == SeamErrors(4, 1, 2, 2, 1)
    assert total.rate == 75.0
    assert total.merge_rate == 50.0
    assert SeamErrors().rate == SeamErrors().merge_rate == 0.0
    assert excess(total, SeamErrors(4, 0, 0, 1)) == 50.0
    with pytest.raises(SettingsError, match="two seams"):
        excess(total, SeamErrors())


def test_windows_are_a_reference_without_edges() -> None:
    words = timed(TEXT)
    window = words[3:15]
    assert against_windows(words, [(9.0, window)], 3.0, "en") == SeamErrors(1)
    lost = words[:8] + words[10:]
    assert against_windows(lost, [(9.0, window)], 3.0, "en") == SeamErrors(1, lost=2)
    far = words[:5] + words[6:]  # beyond the radius
    assert against_windows(far, [(9.0, window)], 3.0, "en") == SeamErrors(1)


def test_languages_without_spaces() -> None:
    text = "今日は良い天気です"
    heard = [Word(i, i + 0.8, character, 0.9) for i, character in enumerate("今日はは良い気です")]
    found = against_reference(heard, Reference.of([(text, 0.0, 9.0)], "ja"), "ja")
    assert [(one.kind, one.word) for one in found] == [("doubled", "は"), ("lost", "天")]
