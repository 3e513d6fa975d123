"""Transcripts of overlapping chunks made one: words are aligned on the overlap, and the cut falls where both agree.

A chunk is least sure of its two ends: the last word may be cut or invented, the first as well, and what stands there is
timed badly. Two neighbours share c/3 seconds (paper, section 3), so what one heard at its end the other heard further
from an edge of its own. Tokens compared without times (`decode.diagonal`) mistake a repeated word for the same word
and are at a loss where one chunk has a word more than the other; here a pair of words must be alike in letters and
near in time, and gaps are free.

The trap is a cut between two words that were not heard by both: it doubles a word or loses one. So a cut is only ever
made beside an agreed pair or in a pause of both, and where nothing agrees `merge` says so (None), it does not guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rapidfuzz.distance import Levenshtein

from whisperstill.decode.overlap import Cut, Overlap
from whisperstill.decode.transcript import Word
from whisperstill.text.languages import UNSPACED
from whisperstill.text.normalise import simple_word

FAR = 3.0
"""Seconds between two words from which on they are not the same, whatever they say."""
NEAR = 0.5
"""Seconds between two words that halve the credit of a pair; cross-attention is off by 0.05 to 0.3 s."""
ALIKE = 0.6
"""Share of equal letters from which on two words may be the same one, heard differently."""
RUN = 0.1
"""Credit for a pair that follows a pair at once."""
GAP = 2
"""Words without partner, on either side, that do not break a chain of pairs."""
ENOUGH = 0.6
"""Credit of a chain of pairs from which on it counts as agreement: one word, said at the same time."""
FEW = 3
"""Where both have more words than this, twice as much is needed, and again where words are single characters."""
LOOP = 4
"""Different words, at most, of a loop, in which they come three times each or more."""


@dataclass(frozen=True, slots=True)
class Seam:
    """Where the words of two chunks are joined: `left[: self.left] + right[self.right :]`."""

    left: int
    """How many words of the left chunk stay."""
    right: int
    """The first word of the right chunk that stays."""
    time: float
    """Seconds of the recording."""
    agreed: bool = True
    """Whether words of both chunks agree there, or one of them heard nothing; else it is a guess."""


def merge(left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str) -> Seam | None:
    """The seam of two neighbours that share the seconds from `begin` (of the right one) to `end` (of the left one).

    Words are in order, in seconds of the recording. Cuts lie beside words on which both agree, in a pause of both, or
    where one heard nothing, and never part a pair; the best one (`Overlap.worth`) is near the middle of the overlap,
    among agreed words. Where at most one of them has words, leaving out those within `EDGE` of either end, which an
    edge may have cut or made up, position and probability decide (`by_position`). None where both have words and do
    not agree on any: a window centred on the seam, decoded anew, is then merged with each of the two.
    """
    overlap = Overlap(left, right, begin, end)
    inside = sum(word.end > begin for word in left), sum(word.start < end for word in right)
    many = min(inside) > FEW
    needed = ENOUGH * (1 + many) * (1 + (many and language in UNSPACED))
    chains = [chain for chain in _chains(_pairs(overlap)) if sum(pair[2] for pair in chain) >= needed]
    pairs = {(i, j) for chain in chains for i, j, _ in chain}
    if not pairs and all(any(overlap.is_inside(word) for word in side) for side in (left, right)):
        return None
    cuts = {(i + step, j + step) for i, j in pairs for step in (0, 1)}
    for a, b in overlap.quiet_cuts():
        if all((i < a) == (j < b) for i, j in pairs):  # else it parts a pair, and doubles its word or loses it
            cuts.add((a, b))
    if not pairs:
        cuts.add(_by_position(overlap))
    best = max(sorted(cuts), key=lambda cut: overlap.worth(cut, pairs))
    return Seam(*best, overlap.time(best))


def by_position(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> Seam:
    """The seam where words cannot be compared: of each chunk stays what is likelier right than not (`Overlap.trusts`).

    Of the left chunk the beginning with the largest sum of trust stays, of the right one the end.
    """
    overlap = Overlap(left, right, begin, end)
    cut = _by_position(overlap)
    return Seam(*cut, overlap.time(cut))


def without_agreement(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> Seam:
    """The seam of last resort, where both have words that disagree: each keeps its half of the overlap.

    But a chunk in a loop, its words a few that come again and again, keeps nothing there. And where one has less than
    half as many words as the other, it has probably skipped what the other heard, and its words, which belong
    somewhere else, are spread over it: then all words stay.
    """
    middle = (begin + end) / 2
    inside = [
        [simple_word(word.word) for word in side if word.end > begin and word.start < end] for side in (left, right)
    ]
    loops = [len(texts) >= 3 * len(set(texts)) and 0 < len(set(texts)) <= LOOP for texts in inside]
    if loops == [True, False]:
        return Seam(sum(word.end <= begin for word in left), 0, middle, agreed=False)
    if loops == [False, True]:
        return Seam(len(left), sum(word.start < end for word in right), middle, agreed=False)
    if 2 * min(map(len, inside)) < max(map(len, inside)):
        return Seam(len(left), 0, middle, agreed=False)
    kept, dropped = (sum((word.start + word.end) / 2 < middle for word in side) for side in (left, right))
    return Seam(kept, dropped, middle, agreed=False)


def _credit(left: Word, right: Word) -> float:
    """How likely two words are the same, 0 to 1: likeness of letters times nearness in time."""
    apart = (abs(left.start - right.start) + abs(left.end - right.end)) / 2
    if apart > FAR:
        return 0.0
    mine, theirs = simple_word(left.word), simple_word(right.word)
    alike = float(Levenshtein.normalized_similarity(mine, theirs)) if mine and theirs else 0.0
    return alike**2 / (1 + (apart / NEAR) ** 2) if alike >= ALIKE else 0.0


def _pairs(overlap: Overlap) -> list[tuple[int, int, float]]:
    """The pairs of an alignment with the largest sum of credits, in order, as (left, right, credit).

    Needleman and Wunsch's table with free gaps and credit for pairs in a row; where times are equal, text decides, and
    where texts repeat, times do.
    """
    rows = range(overlap.first, len(overlap.left))
    columns = range(overlap.last)
    credit = [[_credit(overlap.left[i], overlap.right[j]) for j in columns] for i in rows]
    nothing = float("-inf")
    best = [[0.0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    paired = [[nothing] * (len(columns) + 1) for _ in range(len(rows) + 1)]  # the last of each side are a pair
    for i in range(len(rows)):
        for j in range(len(columns)):
            if credit[i][j] > 0:
                paired[i + 1][j + 1] = credit[i][j] + max(best[i][j], paired[i][j] + RUN)
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], paired[i + 1][j + 1])
    pairs: list[tuple[int, int, float]] = []
    i, j, must = len(rows), len(columns), False
    while i and j:
        if must or paired[i][j] >= max(best[i - 1][j], best[i][j - 1]):
            must = paired[i - 1][j - 1] + RUN >= best[i - 1][j - 1]
            i, j = i - 1, j - 1
            pairs.append((rows[i], columns[j], credit[i][j]))
        elif best[i - 1][j] >= best[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _chains(pairs: Sequence[tuple[int, int, float]]) -> Iterator[list[tuple[int, int, float]]]:
    """Pairs in groups: a group ends where more than `GAP` words of one side have no partner."""
    chain = list(pairs[:1])
    for before, pair in pairwise(pairs):
        if max(pair[0] - before[0], pair[1] - before[1]) > GAP + 1:
            yield chain
            chain = []
        chain.append(pair)
    if chain:
        yield chain


def _by_position(overlap: Overlap) -> Cut:
    kept = overlap.first + _best_prefix(overlap.trusts[0])
    return kept, overlap.last - _best_prefix(overlap.trusts[1][::-1])


def _best_prefix(values: Sequence[float]) -> int:
    """How many values from the front have the largest sum; the most of them where sums are equal."""
    sums = [0.0, *accumulate(values)]
    return max(range(len(sums)), key=lambda count: (sums[count], count))
