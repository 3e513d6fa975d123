"""Repeats, against a slow twin."""

from hypothesis import given
from hypothesis import strategies as st

from whisperstill.label.repeats import longest_repeat, most_repeated


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


def test_a_loop_without_spaces_is_counted_in_characters() -> None:
    looped = "谢谢观看" * 6
    assert most_repeated(looped, "zh") == 6 and most_repeated(looped, None) == 1
    assert most_repeated("今天哈哈哈哈哈哈走了", "zh") == 3  # one character over and over counts in pairs
    assert most_repeated("到了机场的时候" * 5, "zh") == 5
    assert most_repeated("thank you thank you", "en") == 2
