"""Figures without reference, against slow twins."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from whisperstill.label.quality import compression_ratio, longest_repeat, tokens_per_second


def slow_repeat(words: list[str]) -> int:
    """The slow twin: every group at every place."""
    longest = min(1, len(words))
    for size in range(1, 9):
        for start in range(len(words)):
            group, times = words[start : start + size], 1
            if len(group) < size:
                continue
            while words[start + times * size : start + (times + 1) * size] == group:
                times += 1
            longest = max(longest, times)
    return longest


@given(st.lists(st.sampled_from("abc"), max_size=25))
def test_longest_repeat_is_that_of_the_slow_twin(words: list[str]) -> None:
    assert longest_repeat(words) == slow_repeat(words)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True), st.integers(1, 6))
def test_a_loop_is_counted(group: list[str], times: int) -> None:
    assert longest_repeat(["x", *group * times, "y"]) == times


def test_longest_repeat() -> None:
    assert longest_repeat([]) == 0
    assert longest_repeat(["—", "..."]) == 0
    assert longest_repeat("one two three".split()) == 1
    assert longest_repeat("Thank you. thank you! THANK YOU".split()) == 3
    nine = list("abcdefghi")
    assert longest_repeat(nine * 3) == 1  # groups of more than 8 words are not looked for


def test_compression_ratio() -> None:
    text = "Thank you for watching. " * 20
    assert compression_ratio(text) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert compression_ratio(text) > 2.4
    assert compression_ratio("The quick brown fox jumps over the lazy dog.") < 1.2
    assert compression_ratio("") == 0
    assert compression_ratio("é" * 50) > compression_ratio("e" * 50)  # bytes, not characters


def test_tokens_per_second() -> None:
    assert tokens_per_second(30, 10.0) == 3
    assert tokens_per_second(30, 0.0) == 0
