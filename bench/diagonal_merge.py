"""Baseline merge of overlapping chunks: the diagonal with the largest fraction of equal tokens.

The method of the paper's implementation and of most tools: the tokens of the right chunk are shifted along those of the
left one, and the shift with the largest fraction of equal tokens wins, if at least two are equal; the cut is in the
middle of the overlap. No times, no gaps. `whisperstill.decode.longform.chunk_merge` is measured against it;
`tests/unit/decode/test_diagonal_merge.py` shows where it fails: silence in the overlap, a repeated word, a token more
in one chunk than in the other.
"""

from collections.abc import Iterable, Sequence

LONGER = 1e-4
"""Credit per token of the stretch compared, so that of two perfect shifts the longer one wins."""


def diagonal(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """How many tokens of `left` stay, and from which of `right` on; all of both where no two tokens are equal.

    At shift s the last s tokens of `left` (all, from where s exceeds its length) lie on tokens of `right`.
    """
    best, cut = 0.0, (len(left), 0)
    if not left or not right:
        return cut
    for shift in range(1, len(left) + len(right)):
        left_start, right_start = max(0, len(left) - shift), max(0, shift - len(left))
        length = min(len(left) - left_start, len(right) - right_start)
        equal = sum(
            mine == theirs
            for mine, theirs in zip(
                left[left_start : left_start + length], right[right_start : right_start + length], strict=True
            )
        )
        share = equal / length + LONGER * length
        if equal > 1 and share > best:
            best = share
            cut = left_start + length // 2, right_start + length // 2
    return cut


def merge_tokens(chunks: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """What stays of chunks in order, as (chunk, place in it); each is merged with what stays of the one before."""
    merged: list[tuple[int, int]] = []
    held: list[int] = []
    places: list[tuple[int, int]] = []
    for number, chunk in enumerate(chunks):
        kept, first = diagonal(held, chunk)
        merged += places[:kept]
        held = list(chunk[first:])
        places = [(number, place) for place in range(first, len(chunk))]
    return merged + places
