"""N-gram repeats compared with a slow implementation."""

from hypothesis import given, strategies as st

from whisperstill.text.repetition import count_ngram_repeats, count_text_repeats


def slow_count(words: list[str]) -> int:
    """Every n-gram at every position."""
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
def test_counts_equal_those_of_the_slow_implementation(words: list[str]) -> None:
    assert count_ngram_repeats(words) == slow_count(words)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True), st.integers(1, 6))
def test_a_loop_is_counted(group: list[str], times: int) -> None:
    assert count_ngram_repeats(["x", *group * times, "y"]) == times


def test_examples() -> None:
    assert count_ngram_repeats([]) == 0
    assert count_ngram_repeats(["—", "..."]) == 0
    assert count_ngram_repeats("one two three".split()) == 1
    assert count_ngram_repeats("Thank you. thank you! THANK YOU".split()) == 3
    nine = list("abcdefghi")
    assert count_ngram_repeats(nine * 3) == 1  # n is at most 8


def test_unspaced_languages_are_counted_by_character() -> None:
    looped = "谢谢观看" * 6
    assert count_text_repeats(looped, "zh") == 6 and count_text_repeats(looped, None) == 1
    assert count_text_repeats("今天哈哈哈哈哈哈走了", "zh") == 3  # n is at least 2
    assert count_text_repeats("到了机场的时候" * 5, "zh") == 5
    assert count_text_repeats("thank you thank you", "en") == 2
