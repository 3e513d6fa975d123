"""The usual merge by overlapping tokens: where it works, and where it fails."""

import random
from collections.abc import Sequence

from hypothesis import given, strategies as st
from token_overlap_merge import LENGTH_BONUS, find_overlap, merge_tokens


def merge(left: str, right: str) -> str:
    left_end, first = find_overlap([ord(letter) for letter in left], [ord(letter) for letter in right])
    return left[:left_end] + right[first:]


def slow(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Slow twin: all pairs of positions, grouped by their offset."""
    best, cut = 0.0, (len(left), 0)
    for offset in range(len(left) - 1, -len(right), -1):  # left position minus right position
        positions = [(i, i - offset) for i in range(len(left)) if 0 <= i - offset < len(right)]
        equal = sum(left[i] == right[j] for i, j in positions)
        score = equal / max(1, len(positions)) + LENGTH_BONUS * len(positions)
        if equal > 1 and score > best:
            best, cut = score, positions[len(positions) // 2]
    return cut


TOKENS = st.lists(st.integers(0, 3), max_size=9)


@given(TOKENS, TOKENS)
def test_equals_the_slow_twin(left: list[int], right: list[int]) -> None:
    assert find_overlap(left, right) == slow(left, right)


def test_equal_tokens_are_merged() -> None:
    assert merge("abcdefgh", "efghijkl") == "abcdefghijkl"
    assert merge("abcdefgX", "Yfghijkl") == "abcdefghijkl"  # ragged ends are cut away


def test_chunks_without_equal_tokens_are_concatenated() -> None:
    assert merge("abc", "xyz") == "abcxyz"
    assert merge("", "xyz") == "xyz"
    assert merge("abc", "") == "abc"


def test_merge_of_several_chunks() -> None:
    chunks = ["abcdefgh", "efghijkl", "ijklmnop"]
    positions = merge_tokens([[ord(letter) for letter in chunk] for chunk in chunks])
    assert "".join(chunks[chunk][index] for chunk, index in positions) == "abcdefghijklmnop"
    assert merge_tokens([]) == []


def test_failure_one_common_token_is_duplicated() -> None:
    assert merge("abcde", "efgh") == "abcdeefgh"


def test_failure_silence_in_the_overlap_matches_elsewhere() -> None:
    # Nothing matches in time, but "the" and "of" occur in both: the words between them are lost.
    assert merge("on the top of a hill", "in the top of a tree") != "on the top of a hillin the top of a tree"


def test_failure_an_inserted_token_duplicates_or_loses() -> None:
    truth = "abcdefghijklmnop"
    assert merge("abcdefghijkl", "eXfghijklmnop") == truth  # most tokens still have the same offset
    assert merge("abcdefghijkl", "efghXijklmnop") != truth  # half at each offset: one half is duplicated or lost


def test_failure_repeated_words_are_lost() -> None:
    # "no" four times; the right chunk starts with the last two.
    truth = "no no no no said he then"
    left, right = truth.split()[:4], truth.split()[2:]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(truth.split()))}
    left_end, first = find_overlap([vocabulary[word] for word in left], [vocabulary[word] for word in right])
    assert " ".join(left[:left_end] + right[first:]) == truth
    left = truth.split()[:5]  # one more "no" at the start of the right chunk
    right = ["no", *truth.split()[2:]]
    left_end, first = find_overlap([vocabulary[word] for word in left], [vocabulary[word] for word in right])
    assert " ".join(left[:left_end] + right[first:]) == truth
    generator, lost = random.Random(0), 0
    for _ in range(50):
        text = [generator.choice("ab") for _ in range(20)]
        left_end, first = find_overlap([ord(letter) for letter in text[:12]], [ord(letter) for letter in text[8:]])
        lost += text[:12][:left_end] + text[8:][first:] != text
    assert lost > 0
