"""Edit counts equal those of jiwer."""

import jiwer
import numpy as np
import pytest

from whisperstill.records import EditCounts
from whisperstill.text.edit_distance import align, count_character_edits, count_edits, count_edits_per_block


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", EditCounts(3, 0, 0, 0)),
        ("a b c", "a x c d", EditCounts(2, 1, 0, 1)),
        ("a b c", "", EditCounts(0, 0, 3, 0)),
        ("", "a b", EditCounts(0, 0, 0, 2)),
        ("", "", EditCounts(0, 0, 0, 0)),
    ],
    ids=["equal", "substitution and insertion", "deletions", "insertions", "empty"],
)
def test_words(reference: str, hypothesis: str, expected: EditCounts) -> None:
    assert count_edits(reference, hypothesis) == expected
    assert count_edits(reference.split(), hypothesis.split()) == expected


def test_real_references_with_deleted_words(references: list[str]) -> None:
    for text in references[::50]:
        hypothesis = " ".join(word for i, word in enumerate(text.split()) if i % 4)
        words = jiwer.process_words(text, hypothesis)
        assert count_edits(text, hypothesis) == EditCounts(
            words.hits, words.substitutions, words.deletions, words.insertions
        )
        letters = jiwer.process_characters(" ".join(text.split()), hypothesis)
        mine = count_character_edits(text, hypothesis)
        assert (mine.errors, mine.reference_length) == (
            letters.substitutions + letters.deletions + letters.insertions,
            letters.hits + letters.substitutions + letters.deletions,
        )


def test_alignment() -> None:
    assert align("a b c".split(), "a x c d".split()) == [(0, 0), (1, 1), (2, 2), (None, 3)]
    assert align(["a", "b"], []) == [(0, None), (1, None)]
    assert align([], []) == []


@pytest.mark.parametrize("seed", range(20))
def test_block_counts_add_up(seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = [str(digit) for digit in random.integers(0, 9, size=int(random.integers(0, 400)))]
    hypothesis = [word for word in reference if random.random() > 0.1]
    hypothesis.insert(0, "new")
    parts = count_edits_per_block(reference, hypothesis, 50)
    total = count_edits(reference, hypothesis)
    assert sum(counts.errors for counts in parts) == total.errors
    assert sum(counts.reference_length for counts in parts) == len(reference)
    sizes = [counts.reference_length for counts in parts]
    assert max(sizes) - min(sizes) <= 1 and len(parts) == max(1, len(reference) // 50)
