"""Counts of edits between two texts, and the alignment behind them.

All texts are taken as they are: normalise first (`text.normalise`). Counts are those of jiwer (the tests compare),
both rest on the same edit distance; substitutions, deletions and insertions cost 1 each.
"""

from collections.abc import Sequence
from typing import TypeAlias

from rapidfuzz.distance import Levenshtein

from whisperstill.records.edits import EditCounts

Pair: TypeAlias = tuple[int | None, int | None]


def count_edits(reference: str | Sequence[str], hypothesis: str | Sequence[str]) -> EditCounts:
    """Word edits that turn `reference` into `hypothesis`; strings are split at white space."""
    return _count(_words(reference), _words(hypothesis))


def count_character_edits(reference: str, hypothesis: str) -> EditCounts:
    """Character edits; runs of white space count as one space, at the ends as none (as in jiwer)."""
    return _count(" ".join(reference.split()), " ".join(hypothesis.split()))


def align(reference_words: Sequence[str], hypothesis_words: Sequence[str]) -> list[Pair]:
    """Pairs `(reference index, hypothesis index)` of a shortest edit path, in order.

    A deleted word has `None` as hypothesis index, an inserted one `None` as reference index; the words of a pair are
    equal (a hit) or differ (a substitution). Every index of both sides stands exactly once.
    """
    pairs: list[Pair] = []
    for step in Levenshtein.opcodes(reference_words, hypothesis_words):
        mine, theirs = range(step.src_start, step.src_end), range(step.dest_start, step.dest_end)
        if step.tag == "delete":
            pairs += [(i, None) for i in mine]
        elif step.tag == "insert":
            pairs += [(None, j) for j in theirs]
        else:
            pairs += zip(mine, theirs, strict=True)
    return pairs


def count_stretches(reference_words: Sequence[str], hypothesis_words: Sequence[str], length: int) -> list[EditCounts]:
    """Edits of stretches of about `length` words of the reference, at least one; together they are all of them.

    Where stretches end depends on the reference alone. What was inserted belongs to the word before it.
    """
    count = max(1, len(reference_words) // length)
    found = [[0, 0, 0, 0] for _ in range(count)]
    at = 0
    for mine, theirs in align(reference_words, hypothesis_words):
        if mine is None:
            found[at][3] += 1
            continue
        at = mine * count // len(reference_words)
        if theirs is None:
            found[at][2] += 1
        else:
            found[at][reference_words[mine] != hypothesis_words[theirs]] += 1
    return [EditCounts(*one) for one in found]


def _words(text: str | Sequence[str]) -> Sequence[str]:
    return text.split() if isinstance(text, str) else text


def _count(reference: Sequence[str], hypothesis: Sequence[str]) -> EditCounts:
    substitutions = deletions = insertions = 0
    for edit in Levenshtein.editops(reference, hypothesis):
        if edit.tag == "replace":
            substitutions += 1
        elif edit.tag == "delete":
            deletions += 1
        else:
            insertions += 1
    return EditCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)
