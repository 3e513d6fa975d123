"""Properties of edit counts that hold for any two texts."""

import jiwer
from hypothesis import given, strategies as st

from whisperstill.records.edit_counts import NO_EDITS
from whisperstill.text.edit_distance import align, count_character_edits, count_edits

WORDS = st.lists(st.sampled_from(["a", "b", "c", "the", "cat"]), max_size=12)


def distance(a: list[str], b: list[str]) -> int:
    """Edit distance by the textbook table."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@given(WORDS, WORDS)
def test_counts_equal_the_table_and_jiwer(a: list[str], b: list[str]) -> None:
    counts = count_edits(a, b)
    assert counts.errors == distance(a, b)
    assert counts.reference_length == len(a)
    assert counts.hits + counts.substitutions + counts.insertions == len(b)
    oracle = jiwer.process_words(" ".join(a), " ".join(b))
    assert (counts.hits, counts.substitutions, counts.deletions, counts.insertions) == (
        oracle.hits, oracle.substitutions, oracle.deletions, oracle.insertions
    )  # fmt: skip


@given(WORDS)
def test_a_text_has_no_edits_against_itself(a: list[str]) -> None:
    assert count_edits(a, a).errors == 0
    assert count_edits(a, a).hits == len(a)
    assert count_edits(a, []).deletions == len(a) == count_edits([], a).insertions


@given(WORDS, WORDS)
def test_the_distance_is_symmetric(a: list[str], b: list[str]) -> None:
    there, back = count_edits(a, b), count_edits(b, a)
    assert there.errors == back.errors
    assert there.deletions - there.insertions == back.insertions - back.deletions == len(a) - len(b)


@given(WORDS, WORDS, WORDS)
def test_triangle_inequality(a: list[str], b: list[str], c: list[str]) -> None:
    assert count_edits(a, c).errors <= count_edits(a, b).errors + count_edits(b, c).errors


@given(st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_counts_add(pairs: list[tuple[list[str], list[str]]]) -> None:
    total = sum((count_edits(a, b) for a, b in pairs), NO_EDITS)
    assert total.errors == sum(distance(a, b) for a, b in pairs)
    assert total.reference_length == sum(len(a) for a, _ in pairs)
    assert count_edits([w for a, _ in pairs for w in a], [w for _, b in pairs for w in b]).errors <= total.errors


@given(WORDS, WORDS)
def test_an_alignment_is_an_edit_path(a: list[str], b: list[str]) -> None:
    pairs = align(a, b)
    assert [i for i, _ in pairs if i is not None] == list(range(len(a)))
    assert [j for _, j in pairs if j is not None] == list(range(len(b)))
    assert (None, None) not in pairs
    cost = sum(i is None or j is None or a[i] != b[j] for i, j in pairs)
    assert cost == count_edits(a, b).errors


@given(WORDS, WORDS)
def test_white_space_does_not_count(a: list[str], b: list[str]) -> None:
    tidy, loose = (" ".join(a), " ".join(b)), ("  ".join(a) + "\n", "\t" + "  ".join(b))
    assert count_edits(*tidy) == count_edits(*loose)
    assert count_character_edits(*tidy) == count_character_edits(*loose)


def test_a_wrong_distance_fails() -> None:
    """Negative control: a distance without substitutions differs."""

    def wrong(a: list[str], b: list[str]) -> int:
        return abs(len(a) - len(b))

    assert any(wrong(a, b) != distance(a, b) for a, b in [(["a"], ["b"]), (["a", "b"], ["b", "c"])])
