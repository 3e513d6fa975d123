"""The stretch that two neighbouring chunks share: which words may be joined there, and what a cut is worth."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from whisperstill.decode.transcript import Word

Cut: TypeAlias = tuple[int, int]
"""How many words of the left chunk stay, and the first word of the right chunk that stays."""

MARGIN = 1.0
"""Seconds beyond the overlap in which words are still compared: their times are not exact."""
EDGE = 1.0
"""Seconds beside an edge of the overlap in which words need no partner."""
QUIET = 0.5
"""Seconds in which neither chunk has a word, so that a cut there needs no agreement."""
APART = 0.5
"""Seconds from a word to the other chunk's nearest one from which on the other heard nothing there."""
ALONE = 6
"""Weight of a word at whose time the other chunk heard nothing."""
SUPPORT = 0.25
"""Worth, in seconds of speech, of each agreed word beside a cut; up to two on either side count."""
PAUSE = 0.5
"""Worth of a second of pause at a cut; up to `QUIET` seconds count."""


@dataclass(frozen=True)
class Overlap:
    """Two neighbours, the left one ending at `end`, the right one beginning at `begin`; all indices are theirs."""

    left: Sequence[Word]
    right: Sequence[Word]
    begin: float
    end: float

    @cached_property
    def first(self) -> int:
        """The first left word that is compared."""
        return next((i for i, word in enumerate(self.left) if word.end > self.begin - MARGIN), len(self.left))

    @cached_property
    def last(self) -> int:
        """How many right words are compared."""
        return next((j for j, word in enumerate(self.right) if word.start >= self.end + MARGIN), len(self.right))

    @cached_property
    def alone(self) -> tuple[list[int], list[int]]:
        """The compared words of either chunk at whose time the other one heard nothing.

        What the other heard beyond the overlap says nothing about that: this chunk cannot have heard it.
        """
        left, right = self.left[self.first :], self.right[: self.last]
        mine = [word for word in left if word.end > self.begin]
        theirs = [word for word in right if word.start < self.end]
        return (
            [i for i, word in enumerate(left, self.first) if not any(_together(word, other) for other in theirs)],
            [j for j, word in enumerate(right) if not any(_together(word, other) for other in mine)],
        )

    @cached_property
    def trusts(self) -> tuple[list[float], list[float]]:
        """How much is won by keeping each compared word of the left chunk, and of the right one (`_trust`)."""
        alone = set(self.alone[0]), set(self.alone[1])
        left, right = enumerate(self.left[self.first :], self.first), enumerate(self.right[: self.last])
        return (
            [_trust(word, self._share(word), self.end - _middle(word), i in alone[0], True) for i, word in left],
            [
                _trust(word, 1 - self._share(word), _middle(word) - self.begin, j in alone[1], False)
                for j, word in right
            ],
        )

    def is_inside(self, word: Word) -> bool:
        """Whether a word lies in the overlap, away from both edges: there both chunks should have heard it."""
        return word.end > self.begin + EDGE and word.start < self.end - EDGE

    def quiet_cuts(self) -> Iterator[Cut]:
        """The cuts that need no agreement: in pauses of both, and beside words of one where the other heard nothing."""
        words = sorted([*self.left[self.first :], *self.right[: self.last]], key=lambda word: word.start)
        quiet_since = self.begin
        for start, end in [*((word.start, word.end) for word in words), (self.end, self.end)]:
            if start - quiet_since >= QUIET:
                at = (start + quiet_since) / 2
                yield sum(word.start < at for word in self.left), sum(word.start < at for word in self.right)
            quiet_since = max(quiet_since, end)
        for i in self.alone[0]:
            count = sum(word.start < self.left[i].start for word in self.right)
            yield from ((i, count), (i + 1, count))
        for j in self.alone[1]:
            count = sum(word.start < self.right[j].start for word in self.left)
            yield from ((count, j), (count, j + 1))

    def worth(self, cut: Cut, pairs: Set[Cut]) -> float:
        """How good a cut is, in seconds of speech: trust in what stays, agreed words around it, the pause there."""
        i, j = cut
        trusted = sum(self.trusts[0][: max(0, i - self.first)]) + sum(self.trusts[1][j:])
        ends = [word.end for word in (*self.left[max(0, i - 1) : i], *self.right[max(0, j - 1) : j])]
        starts = [word.start for word in (*self.left[i : i + 1], *self.right[j : j + 1])]
        pause = min(starts) - max(ends) if starts and ends else QUIET  # of both: what is not kept is no pause
        quiet = 2 * (pause >= QUIET)  # as good as two agreed words
        before = max(quiet, ((i - 1, j - 1) in pairs) * (1 + ((i - 2, j - 2) in pairs)))
        after = max(quiet, ((i, j) in pairs) * (1 + ((i + 1, j + 1) in pairs)))
        return trusted + SUPPORT * (before + after) + PAUSE * min(QUIET, max(0.0, pause))

    def time(self, cut: Cut) -> float:
        """The second of a cut, within the overlap."""
        i, j = cut
        until = self.left[i - 1].end if i else self.begin
        since = self.right[j].start if j < len(self.right) else self.end
        return min(self.end, max(self.begin, (until + since) / 2))

    def _share(self, word: Word) -> float:
        """Where a word lies: 0 at the right chunk's beginning, 1 at the left chunk's end."""
        return min(1.0, max(0.0, (_middle(word) - self.begin) / (self.end - self.begin)))


def _trust(word: Word, nearness: float, seconds: float, alone: bool, is_left: bool) -> float:
    """How much is won by keeping a word: its probability less its nearness to its chunk's edge, times its length.

    `nearness` is 1 at the edge of the chunk that heard it, `seconds` away, and 0 at the other end of the overlap. In
    a stretch that both heard alike the sum of it is largest for a cut in the middle.

    A word at whose time the other chunk heard nothing weighs `ALONE` times as much, for without it there is a hole, and
    little probability will do, for chunks skip words more often than they make them up. What they do make up is last
    words in silence, so those must be likely; a first word is unlikely for want of context, and still mostly right.
    """
    length = min(1.0, max(0.1, word.end - word.start))
    if not alone:
        return length * (word.probability - nearness)
    wanted = 0.3 * nearness
    if is_left and seconds < EDGE / 2:
        wanted = 0.75 * nearness
    elif not is_left and seconds < EDGE:
        wanted = 0.0
    return ALONE * length * (word.probability - wanted)


def _together(one: Word, other: Word) -> bool:
    return one.start - other.end < APART and other.start - one.end < APART


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2
