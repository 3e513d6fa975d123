"""Loops betray a bad transcript without a reference."""

from collections.abc import Sequence

from whisperstill.text.normalise import simple_word, spoken_units, unit_for

WORDS = (1, 8)
"""Least and most words of a group that is looked for."""
CHARACTERS = (2, 24)
"""The same where words are not separated by spaces. One character said over and over counts in pairs: in such
languages it may be a word (laughter, a digit), said as often as it was meant."""


def most_repeated(text: str, language: str | None) -> int:
    """`longest_repeat` of the words of a text, or of its characters where its language writes no spaces."""
    groups = CHARACTERS if unit_for(language) == "character" else WORDS
    return longest_repeat(spoken_units(text, language), *groups)


def longest_repeat(words: Sequence[str], least: int = WORDS[0], most: int = WORDS[1]) -> int:
    """Most times in a row that one group of `least` to `most` words stands; 1 when nothing repeats, 0 when there are no
    words.

    Words are compared by their letters and digits, in lower case; words that have none are passed over.
    """
    simple = [form for form in map(simple_word, words) if form]
    if not simple:
        return 0
    longest = 1
    for size in range(least, min(most, len(simple) // 2) + 1):
        same = 0
        for word, before in zip(simple[size:], simple, strict=False):
            same = same + 1 if word == before else 0
            longest = max(longest, same // size + 1)
    return longest
