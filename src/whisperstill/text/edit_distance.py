"""Edit counts between two texts, and their word alignment.

Texts are compared as given: normalize them first (`text.normalizers`). Substitutions, deletions and insertions cost 1
each; the counts equal those of jiwer.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from rapidfuzz.distance import Levenshtein

from whisperstill.records.edit_counts import EditCounts

AlignedPair: TypeAlias = tuple[int | None, int | None]
"""Reference index and hypothesis index; None on one side for an insertion or a deletion."""


def count_edits(reference: str | Sequence[str], hypothesis: str | Sequence[str]) -> EditCounts:
    """Word edits from `reference` to `hypothesis`; strings are split at white space."""
    return _count_edit_ops(_split_words(reference), _split_words(hypothesis))


def count_character_edits(reference: str, hypothesis: str) -> EditCounts:
    """Character edits; white space is collapsed and stripped (as in jiwer)."""
    return _count_edit_ops(" ".join(reference.split()), " ".join(hypothesis.split()))


def align(reference_words: Sequence[str], hypothesis_words: Sequence[str]) -> list[AlignedPair]:
    """Pairs `(reference index, hypothesis index)` of a shortest edit path, in order.

    The hypothesis index of a deleted word is None, and so is the reference index of an inserted one; the words of any
    other pair are equal (a hit) or differ (a substitution). Every index of both sides occurs exactly once.
    """
    pairs: list[AlignedPair] = []
    for opcode in Levenshtein.opcodes(reference_words, hypothesis_words):
        reference_indices = range(opcode.src_start, opcode.src_end)
        hypothesis_indices = range(opcode.dest_start, opcode.dest_end)
        if opcode.tag == "delete":
            pairs += [(i, None) for i in reference_indices]
        elif opcode.tag == "insert":
            pairs += [(None, j) for j in hypothesis_indices]
        else:
            pairs += zip(reference_indices, hypothesis_indices, strict=True)
    return pairs


def align_by_score(scores: Sequence[Sequence[float]], bonus: float) -> list[tuple[int, int]]:
    """Index pairs `(row, column)`, in order, of a global alignment with the largest sum of `scores`.

    Needleman and Wunsch's table with free gaps; only positive scores make pairs, and a pair that directly follows
    another one earns `bonus` (an affine table: one score for "ends in a pair", one for the best of all).
    """
    num_rows, num_columns = len(scores), len(scores[0]) if scores else 0
    best_scores = [[0.0] * (num_columns + 1) for _ in range(num_rows + 1)]
    paired_scores = [[-math.inf] * (num_columns + 1) for _ in range(num_rows + 1)]
    # 1. Fill both tables.
    for i in range(num_rows):
        for j in range(num_columns):
            if scores[i][j] > 0:
                paired_scores[i + 1][j + 1] = scores[i][j] + max(best_scores[i][j], paired_scores[i][j] + bonus)
            best_scores[i + 1][j + 1] = max(best_scores[i][j + 1], best_scores[i + 1][j], paired_scores[i + 1][j + 1])
    # 2. Trace the best path back; a bonus earned by a pair forces the pair before it.
    pairs: list[tuple[int, int]] = []
    i, j, must_pair = num_rows, num_columns, False
    while i and j:
        if must_pair or paired_scores[i][j] >= max(best_scores[i - 1][j], best_scores[i][j - 1]):
            must_pair = paired_scores[i - 1][j - 1] + bonus >= best_scores[i - 1][j - 1]
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif best_scores[i - 1][j] >= best_scores[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def count_edits_per_block(
    reference_words: Sequence[str], hypothesis_words: Sequence[str], words_per_block: int
) -> list[EditCounts]:
    """Edits per block of about `words_per_block` reference words; there is at least one block.

    Block limits depend on the reference alone. An insertion belongs to the block of the word before it.
    """
    num_blocks = max(1, len(reference_words) // words_per_block)
    block_counts = [[0, 0, 0, 0] for _ in range(num_blocks)]  # hits, substitutions, deletions, insertions
    block = 0
    for reference_index, hypothesis_index in align(reference_words, hypothesis_words):
        if reference_index is None:
            block_counts[block][3] += 1
            continue
        block = reference_index * num_blocks // len(reference_words)
        if hypothesis_index is None:
            block_counts[block][2] += 1
        else:
            block_counts[block][reference_words[reference_index] != hypothesis_words[hypothesis_index]] += 1
    return [EditCounts(*counts) for counts in block_counts]


def _split_words(text: str | Sequence[str]) -> Sequence[str]:
    return text.split() if isinstance(text, str) else text


def _count_edit_ops(reference: Sequence[str], hypothesis: Sequence[str]) -> EditCounts:
    edits = Counter(edit_op.tag for edit_op in Levenshtein.editops(reference, hypothesis))
    hits = len(reference) - edits["replace"] - edits["delete"]
    return EditCounts(hits, edits["replace"], edits["delete"], edits["insert"])
