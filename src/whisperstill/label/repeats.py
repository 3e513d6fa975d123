"""Loops betray a bad transcript without a reference."""

from collections.abc import Sequence

from whisperstill.text.normalise import simple_word

LONGEST_GROUP = 8
"""Most words of a group that `longest_repeat` looks for."""


def longest_repeat(words: Sequence[str]) -> int:
    """Most times in a row that one group of 1 to 8 words stands; 1 when nothing repeats, 0 when there are no words.

    Words are compared by their letters and digits, in lower case; words that have none are passed over.
    """
    simple = [form for form in map(simple_word, words) if form]
    if not simple:
        return 0
    longest = 1
    for size in range(1, min(LONGEST_GROUP, len(simple) // 2) + 1):
        same = 0
        for word, before in zip(simple[size:], simple, strict=False):
            same = same + 1 if word == before else 0
            longest = max(longest, same // size + 1)
    return longest
