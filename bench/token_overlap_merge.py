"""The usual merge of overlapping chunks: the shift of token sequences with the largest share of equal tokens.

This is the method of the paper's implementation, and of most tools since. The right chunk's tokens are slid along the
left one's; at each shift, tokens at the same position are compared, and the shift with the largest share of equal
tokens is used if at least two are equal; the cut is in the middle of the overlap. Times and gaps are ignored. It is
the baseline of `decode.longform.chunk_merge`; `tests/bench/test_token_overlap_merge.py` shows where it fails: silence
in the overlap, a repeated word, an extra token in one of the chunks.
"""

from collections.abc import Iterable, Sequence

LENGTH_BONUS = 1e-4
"""Score per compared token, so that the longer of two perfect overlaps is chosen."""


def find_overlap(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Number of tokens of `left` to keep, and the first token of `right` to keep; all of both if no two are equal.

    At shift s the last s tokens of `left` (all, once s exceeds its length) lie on tokens of `right`.
    """
    best_score, cut = 0.0, (len(left), 0)
    if not left or not right:
        return cut
    for shift in range(1, len(left) + len(right)):
        left_start, right_start = max(0, len(left) - shift), max(0, shift - len(left))
        length = min(len(left) - left_start, len(right) - right_start)
        overlap = zip(left[left_start : left_start + length], right[right_start : right_start + length], strict=True)
        equal = sum(left_token == right_token for left_token, right_token in overlap)
        score = equal / length + LENGTH_BONUS * length
        if equal > 1 and score > best_score:
            best_score = score
            cut = left_start + length // 2, right_start + length // 2
    return cut


def merge_tokens(chunks: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Tokens to keep, in order, as (chunk, index in it); each is merged with the rest of the previous one."""
    merged: list[tuple[int, int]] = []
    pending: list[int] = []
    positions: list[tuple[int, int]] = []
    for number, chunk in enumerate(chunks):
        num_kept, first = find_overlap(pending, chunk)
        merged += positions[:num_kept]
        pending = list(chunk[first:])
        positions = [(number, index) for index in range(first, len(chunk))]
    return merged + positions
