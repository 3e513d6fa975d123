"""Loops betray a bad transcript without a reference."""

from collections.abc import Sequence

from whisperstill.text.normalizers import error_rate_unit, normalize_word, split_into_units

WORD_NGRAM_SIZES = (1, 8)
"""Least and most words of a group that is looked for."""
CHARACTER_NGRAM_SIZES = (2, 24)
"""The same where words are not separated by spaces. One character said over and over counts in pairs: in such
languages it may be a word (laughter, a digit), said as often as it was meant."""


def count_text_repeats(text: str, language: str | None) -> int:
    """`longest_repeat` of the words of a text, or of its characters where its language writes no spaces."""
    ngram_sizes = CHARACTER_NGRAM_SIZES if error_rate_unit(language) == "character" else WORD_NGRAM_SIZES
    return count_ngram_repeats(split_into_units(text, language), *ngram_sizes)


def count_ngram_repeats(
    words: Sequence[str], min_n: int = WORD_NGRAM_SIZES[0], max_n: int = WORD_NGRAM_SIZES[1]
) -> int:
    """Most times in a row that one group of `least` to `most` words stands; 1 when nothing repeats, 0 when there are no
    words.

    Words are compared by their letters and digits, in lower case; words that have none are passed over.
    """
    normalized_words = [form for form in map(normalize_word, words) if form]
    if not normalized_words:
        return 0
    max_repeats = 1
    for n in range(min_n, min(max_n, len(normalized_words) // 2) + 1):
        matching_words = 0
        for word, earlier_word in zip(normalized_words[n:], normalized_words, strict=False):
            matching_words = matching_words + 1 if word == earlier_word else 0
            max_repeats = max(max_repeats, matching_words // n + 1)
    return max_repeats
