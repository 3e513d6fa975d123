"""Repetition in a transcript: the sign of a decoder stuck in a loop."""

from collections.abc import Sequence

from whisperstill.text.normalizers import error_rate_unit, normalize_word, split_into_units

WORD_NGRAM_SIZES = (1, 8)
"""Smallest and largest n of the word n-grams searched for."""
CHARACTER_NGRAM_SIZES = (2, 24)
"""The same for characters of unspaced languages. A single character is not counted: it may be a word of its own
(laughter, a digit) that the speaker repeats."""


def count_text_repeats(text: str, language: str | None) -> int:
    """`count_ngram_repeats` of a text's words, or of its characters in unspaced languages."""
    ngram_sizes = CHARACTER_NGRAM_SIZES if error_rate_unit(language) == "character" else WORD_NGRAM_SIZES
    return count_ngram_repeats(split_into_units(text, language), *ngram_sizes)


def count_ngram_repeats(
    words: Sequence[str], min_n: int = WORD_NGRAM_SIZES[0], max_n: int = WORD_NGRAM_SIZES[1]
) -> int:
    """Largest number of consecutive occurrences of one n-gram, `min_n` to `max_n` words long.

    1 when nothing repeats, 0 without words. Words are compared by their letters and digits in lower case; words
    without any are ignored.
    """
    normalized_words = [form for form in map(normalize_word, words) if form]
    if not normalized_words:
        return 0
    max_repeats = 1
    for n in range(min_n, min(max_n, len(normalized_words) // 2) + 1):
        matching_words = 0  # consecutive words equal to the word n before
        for word, earlier_word in zip(normalized_words[n:], normalized_words, strict=False):
            matching_words = matching_words + 1 if word == earlier_word else 0
            max_repeats = max(max_repeats, matching_words // n + 1)
    return max_repeats
