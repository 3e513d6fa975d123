"""Transcripts of overlapping chunks made one: words are aligned on the overlap, and the cut falls where both agree.

A chunk is least sure of its two ends: the last word may be cut or invented, the first as well, and what stands there is
timed badly. Two neighbours share c/3 seconds (paper, section 3), so what one heard at its end the other heard further
from an edge of its own. Tokens compared without times (`decode.diagonal`) mistake a repeated word for the same word
and are at a loss where one chunk has a word more than the other; here a pair of words must be alike in letters and
near in time, and gaps are free.

The trap is a cut between two words that were not heard by both: it doubles a word or loses one. So a cut is only ever
made beside an agreed pair or in a pause of both, and where nothing agrees `merge` says so (None), it does not guess.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from rapidfuzz.distance import Levenshtein

from whisperstill.decode.transcript import Word
from whisperstill.text.languages import UNSPACED
from whisperstill.text.normalise import simple_word

MARGIN = 1.0
"""Seconds beyond the overlap in which words are still compared: their times are not exact."""
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
"""In languages whose words are single characters twice as much is needed where both have more words than this."""
EDGE = 1.0
"""Seconds beside an edge of the overlap in which words need no partner."""
QUIET = 0.5
"""Seconds in which neither chunk has a word, so that a cut there needs no agreement."""
SUPPORT = 0.25
"""Worth, in seconds of speech, of each agreed word beside a cut; up to two on either side count."""
PAUSE = 0.5
"""Worth of a second of pause at a cut; up to half a second counts."""


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
    """Whether words of both chunks agree there, or one of them heard nothing; else the cut is by position alone."""


@dataclass(frozen=True, slots=True)
class _Overlap:
    """The words of two chunks that may be the same; indices are those of the whole chunks."""

    left: Sequence[Word]
    right: Sequence[Word]
    begin: float
    end: float
    first: int
    """The first left word that is compared."""
    last: int
    """How many right words are compared."""

    def share(self, word: Word) -> float:
        """Where a word lies: 0 at the right chunk's beginning, 1 at the left chunk's end."""
        middle = (word.start + word.end) / 2
        return min(1.0, max(0.0, (middle - self.begin) / (self.end - self.begin))) if self.end > self.begin else 0.5

    def trust(self, word: Word, is_left: bool) -> float:
        """How much is won by keeping a word: probability less nearness to its chunk's edge, times its seconds.

        In a stretch that both heard alike the sum of it is largest for a cut in the middle.
        """
        share = self.share(word)
        return (word.probability - (share if is_left else 1 - share)) * min(1.0, max(0.1, word.end - word.start))

    def is_inside(self, word: Word) -> bool:
        """Whether a word lies in the overlap, away from both edges: there both chunks should have heard it."""
        return word.end > self.begin + EDGE and word.start < self.end - EDGE

    def pauses(self) -> Iterator[tuple[int, int]]:
        """The cuts where neither has a word for `QUIET` seconds."""
        words = sorted([*self.left[self.first :], *self.right[: self.last]], key=lambda word: word.start)
        quiet_since = self.begin
        for start, end in [*((word.start, word.end) for word in words), (self.end, self.end)]:
            if start - quiet_since >= QUIET:
                at = (start + quiet_since) / 2
                yield (
                    sum(word.start < at for word in self.left),
                    sum(word.start < at for word in self.right),
                )
            quiet_since = max(quiet_since, end)

    def worth(self, cut: tuple[int, int], pairs: Set[tuple[int, int]]) -> float:
        """How good a cut is, in seconds of speech: trust in what stays, agreed words around it, the pause there."""
        i, j = cut
        trusted = sum(self.trust(word, True) for word in self.left[self.first : i])
        trusted += sum(self.trust(word, False) for word in self.right[j : self.last])
        pause = self.right[j].start - self.left[i - 1].end if i and j < len(self.right) else QUIET
        quiet = 2 * (pause >= QUIET)  # as good as two agreed words
        before = max(quiet, ((i - 1, j - 1) in pairs) * (1 + ((i - 2, j - 2) in pairs)))
        after = max(quiet, ((i, j) in pairs) * (1 + ((i + 1, j + 1) in pairs)))
        return trusted + SUPPORT * (before + after) + PAUSE * min(QUIET, max(0.0, pause))

    def seam(self, cut: tuple[int, int]) -> Seam:
        """The cut with its time."""
        i, j = cut
        until = self.left[i - 1].end if i else self.begin
        since = self.right[j].start if j < len(self.right) else self.end
        return Seam(i, j, min(self.end, max(self.begin, (until + since) / 2)))


def merge(left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str) -> Seam | None:
    """The seam of two neighbours that share the seconds from `begin` (of the right one) to `end` (of the left one).

    Words are in order, in seconds of the recording. Cuts lie beside words on which both agree or in a pause of both;
    the best one (`_Overlap.worth`) is near the middle of the overlap, among agreed words. Where at most one of them
    has words, leaving out those within `EDGE` of either end, which an edge may have cut or made up, position and
    probability decide (`by_position`). None where both have words and do not agree on any: a window centred on the
    seam, decoded anew, is then merged with each of the two.
    """
    overlap = _overlap(left, right, begin, end)
    needed = ENOUGH
    if language in UNSPACED and min(len(left) - overlap.first, overlap.last) > FEW:
        needed *= 2
    chains = [chain for chain in _chains(_pairs(overlap)) if sum(pair[2] for pair in chain) >= needed]
    pairs = {(i, j) for chain in chains for i, j, _ in chain}
    cuts = {(i + step, j + step) for i, j in pairs for step in (0, 1)} | set(overlap.pauses())
    if not pairs:
        if all(any(overlap.is_inside(word) for word in side) for side in (left, right)):
            return None
        cuts.add(_by_position(overlap))
    return overlap.seam(max(sorted(cuts), key=lambda cut: overlap.worth(cut, pairs)))


def by_position(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> Seam:
    """The seam where words cannot be compared: of each chunk stays what is likelier right than not.

    A word is trusted by its probability less its nearness to its own chunk's edge (0 at the other's edge, 1 at its
    own); of the left chunk the beginning with the largest sum stays, of the right one the end. So a lone word in the
    middle of the overlap stays if its probability is above 0.5, one beside its chunk's edge hardly ever.
    """
    overlap = _overlap(left, right, begin, end)
    return overlap.seam(_by_position(overlap))


def halved(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> Seam:
    """The seam of last resort, where both have words that disagree: each keeps its half of the overlap."""
    middle = (begin + end) / 2
    kept = sum((word.start + word.end) / 2 < middle for word in left)
    dropped = sum((word.start + word.end) / 2 < middle for word in right)
    return Seam(kept, dropped, middle, agreed=False)


class Stitching:
    """The words of one recording, put together chunk by chunk as they come; only the last chunk's words are held.

    Chunks are added in order of time. A chunk that does not agree with the one before is joined all the same, and its
    seam says so. To do better, ask `agrees` before adding it and, if not, add a window centred on the seam first.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.seams: list[Seam] = []
        """One for each chunk after the first; `left` and `right` count within the words that were held and added."""
        self._held: list[Word] = []
        self._end: float | None = None
        self._said = 0.0

    def agrees(self, words: Sequence[Word], begin: float) -> bool:
        """Whether the chunk that begins at `begin` can be joined to the last one."""
        if self._end is None or begin >= self._end:
            return True
        return merge(self._held, words, begin, self._end, self.language) is not None

    def add(self, words: Sequence[Word], begin: float, end: float) -> list[Word]:
        """Join a chunk of the seconds `begin` to `end`; the words that are final now."""
        if self._end is None:
            self._held, self._end = list(words), end
            return []
        if begin >= self._end:  # no overlap, nothing to compare
            seam = Seam(len(self._held), 0, (begin + self._end) / 2)
        else:
            seam = merge(self._held, words, begin, self._end, self.language) or halved(
                self._held, words, begin, self._end
            )
        kept, rest = self._held[: seam.left], list(words[seam.right :])
        if kept and rest and kept[-1].end > rest[0].start:  # an end is often put too late, in front of a pause
            kept[-1] = replace(kept[-1], end=max(kept[-1].start, rest[0].start))
        self.seams.append(seam)
        self._held, self._end = rest, end
        return self._in_order(kept)

    def finish(self) -> list[Word]:
        """The words that are left; the next chunk begins another recording."""
        final = self._in_order(self._held)
        self._held, self._end, self._said = [], None, 0.0
        return final

    def _in_order(self, words: Sequence[Word]) -> list[Word]:
        """The same words; none begins before the one in front of it has ended."""
        ordered = []
        for word in words:
            if word.start < self._said:
                word = replace(word, start=self._said, end=max(word.end, self._said))
            self._said = word.end
            ordered.append(word)
        return ordered


def _overlap(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> _Overlap:
    first = next((i for i, word in enumerate(left) if word.end > begin - MARGIN), len(left))
    last = next((j for j, word in enumerate(right) if word.start >= end + MARGIN), len(right))
    return _Overlap(left, right, begin, end, first, last)


def _credit(left: Word, right: Word) -> float:
    """How likely two words are the same, 0 to 1: likeness of letters times nearness in time."""
    apart = (abs(left.start - right.start) + abs(left.end - right.end)) / 2
    if apart > FAR:
        return 0.0
    mine, theirs = simple_word(left.word), simple_word(right.word)
    alike = float(Levenshtein.normalized_similarity(mine, theirs)) if mine and theirs else 0.0
    return alike**2 / (1 + (apart / NEAR) ** 2) if alike >= ALIKE else 0.0


def _pairs(overlap: _Overlap) -> list[tuple[int, int, float]]:
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


def _by_position(overlap: _Overlap) -> tuple[int, int]:
    kept = _best_prefix([overlap.trust(word, True) for word in overlap.left[overlap.first :]])
    dropped = overlap.last - _best_prefix([overlap.trust(word, False) for word in overlap.right[: overlap.last]][::-1])
    return overlap.first + kept, dropped


def _best_prefix(values: Sequence[float]) -> int:
    """How many values from the front have the largest sum; the most of them where sums are equal."""
    sums = [0.0, *accumulate(values)]
    return max(range(len(sums)), key=lambda count: (sums[count], count))
