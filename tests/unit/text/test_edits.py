"""Counts against jiwer."""

import jiwer
import pytest

from whisperstill.records import EditCounts
from whisperstill.text.edits import align, count_character_edits, count_edits


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", EditCounts(3, 0, 0, 0)),
        ("a b c", "a x c d", EditCounts(2, 1, 0, 1)),
        ("a b c", "", EditCounts(0, 0, 3, 0)),
        ("", "a b", EditCounts(0, 0, 0, 2)),
        ("", "", EditCounts(0, 0, 0, 0)),
    ],
)
def test_words(reference: str, hypothesis: str, expected: EditCounts) -> None:
    assert count_edits(reference, hypothesis) == expected
    assert count_edits(reference.split(), hypothesis.split()) == expected


def test_real_references_with_words_missing(references: list[str]) -> None:
    for text in references[::50]:
        heard = " ".join(word for i, word in enumerate(text.split()) if i % 4)
        words = jiwer.process_words(text, heard)
        assert count_edits(text, heard) == EditCounts(
            words.hits, words.substitutions, words.deletions, words.insertions
        )
        letters = jiwer.process_characters(" ".join(text.split()), heard)
        mine = count_character_edits(text, heard)
        assert (mine.errors, mine.reference) == (
            letters.substitutions + letters.deletions + letters.insertions,
            letters.hits + letters.substitutions + letters.deletions,
        )


def test_alignment() -> None:
    assert align("a b c".split(), "a x c d".split()) == [(0, 0), (1, 1), (2, 2), (None, 3)]
    assert align(["a", "b"], []) == [(0, None), (1, None)]
    assert align([], []) == []
