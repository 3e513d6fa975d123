"""Baseline merge of token sequences (bench/diagonal_merge.py): where it works, and where it fails."""

import random
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

BASELINE = Path(__file__).resolve().parents[3] / "bench" / "diagonal_merge.py"
spec = spec_from_file_location("diagonal_merge", BASELINE)
assert spec is not None and spec.loader is not None
baseline = module_from_spec(spec)
spec.loader.exec_module(baseline)
LONGER, diagonal, merge_tokens = baseline.LONGER, baseline.diagonal, baseline.merge_tokens


def joined(left: str, right: str) -> str:
    kept, first = diagonal([ord(letter) for letter in left], [ord(letter) for letter in right])
    return left[:kept] + right[first:]


def slow(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """The slow twin: every pair of places, filed under its diagonal."""
    best, cut = 0.0, (len(left), 0)
    for offset in range(len(left) - 1, -len(right), -1):  # left place less right place
        places = [(i, i - offset) for i in range(len(left)) if 0 <= i - offset < len(right)]
        equal = sum(left[i] == right[j] for i, j in places)
        share = equal / max(1, len(places)) + LONGER * len(places)
        if equal > 1 and share > best:
            best, cut = share, places[len(places) // 2]
    return cut


TOKENS = st.lists(st.integers(0, 3), max_size=9)


@given(TOKENS, TOKENS)
def test_it_is_its_slow_twin(left: list[int], right: list[int]) -> None:
    assert diagonal(left, right) == slow(left, right)


def test_equal_tokens_are_merged() -> None:
    assert joined("abcdefgh", "efghijkl") == "abcdefghijkl"
    assert joined("abcdefgX", "Yfghijkl") == "abcdefghijkl"  # ragged ends are cut away


def test_nothing_in_common_is_put_side_by_side() -> None:
    assert joined("abc", "xyz") == "abcxyz"
    assert joined("", "xyz") == "xyz"
    assert joined("abc", "") == "abc"


def test_many_chunks() -> None:
    chunks = ["abcdefgh", "efghijkl", "ijklmnop"]
    places = merge_tokens([[ord(letter) for letter in chunk] for chunk in chunks])
    assert "".join(chunks[chunk][place] for chunk, place in places) == "abcdefghijklmnop"
    assert merge_tokens([]) == []


def test_failure_one_token_in_common_is_doubled() -> None:
    assert joined("abcde", "efgh") == "abcdeefgh"


def test_failure_silence_in_the_overlap_finds_another_place() -> None:
    # Nothing is shared, but "the" and "of" come in both: what lies between is lost.
    assert joined("on the top of a hill", "in the top of a tree") != "on the top of a hillin the top of a tree"


def test_failure_an_inserted_token_doubles_or_loses() -> None:
    truth = "abcdefghijklmnop"
    assert joined("abcdefghijkl", "eXfghijklmnop") == truth  # most of it still lies on one diagonal
    assert joined("abcdefghijkl", "efghXijklmnop") != truth  # half on either: one half is doubled or lost


def test_failure_repeats_lose_words() -> None:
    # "no" four times; the right chunk begins with the last two.
    truth = "no no no no said he then"
    left, right = truth.split()[:4], truth.split()[2:]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(truth.split()))}
    kept, first = diagonal([vocabulary[word] for word in left], [vocabulary[word] for word in right])
    assert " ".join(left[:kept] + right[first:]) == truth
    left = truth.split()[:5]  # the same, and one more "no" in front of what the right chunk heard
    right = ["no", *truth.split()[2:]]
    kept, first = diagonal([vocabulary[word] for word in left], [vocabulary[word] for word in right])
    assert " ".join(left[:kept] + right[first:]) == truth
    chance, lost = random.Random(0), 0
    for _ in range(50):
        said = [chance.choice("ab") for _ in range(20)]
        kept, first = diagonal([ord(one) for one in said[:12]], [ord(one) for one in said[8:]])
        lost += said[:12][:kept] + said[8:][first:] != said
    assert lost > 0
