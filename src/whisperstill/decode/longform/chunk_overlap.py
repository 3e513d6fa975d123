"""The stretch that two neighbouring chunks share: which words may be joined there, and what a cut is worth."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from whisperstill.decode.output.transcript import Word

Cut: TypeAlias = tuple[int, int]
"""How many words of the left chunk stay, and the first word of the right chunk that stays."""

COMPARISON_MARGIN_S = 1.0
"""Seconds beyond the overlap in which words are still compared: their times are not exact."""
EDGE_MARGIN_S = 1.0
"""Seconds beside an edge of the overlap in which words need no partner."""
MIN_SHARED_PAUSE_S = 0.5
"""Seconds in which neither chunk has a word, so that a cut there needs no agreement."""
MIN_UNMATCHED_GAP_S = 0.5
"""Seconds from a word to the other chunk's nearest one from which on the other heard nothing there."""
UNMATCHED_WORD_WEIGHT = 6
"""Weight of a word at whose time the other chunk heard nothing."""
MATCHED_NEIGHBOR_SCORE_S = 0.25
"""Worth, in seconds of speech, of each agreed word beside a cut; up to two on either side count."""
PAUSE_SCORE_PER_S = 0.5
"""Worth of a second of pause at a cut; up to `QUIET` seconds count."""


@dataclass(frozen=True)
class ChunkOverlap:
    """Two neighbours, the left one ending at `end`, the right one beginning at `begin`; all indices are theirs."""

    left: Sequence[Word]
    right: Sequence[Word]
    begin: float
    end: float

    @cached_property
    def first_left(self) -> int:
        """The first left word that is compared."""
        return next(
            (i for i, word in enumerate(self.left) if word.end > self.begin - COMPARISON_MARGIN_S), len(self.left)
        )

    @cached_property
    def num_right(self) -> int:
        """How many right words are compared."""
        return next(
            (j for j, word in enumerate(self.right) if word.start >= self.end + COMPARISON_MARGIN_S), len(self.right)
        )

    @cached_property
    def unmatched(self) -> tuple[list[int], list[int]]:
        """The compared words of either chunk at whose time the other one heard nothing.

        What the other heard beyond the overlap says nothing about that: this chunk cannot have heard it.
        """
        left, right = self.left[self.first_left :], self.right[: self.num_right]
        left_inside = [word for word in left if word.end > self.begin]
        right_inside = [word for word in right if word.start < self.end]
        return (
            [
                i
                for i, word in enumerate(left, self.first_left)
                if not any(_overlap_in_time(word, other_word) for other_word in right_inside)
            ],
            [
                j
                for j, word in enumerate(right)
                if not any(_overlap_in_time(word, other_word) for other_word in left_inside)
            ],
        )

    @cached_property
    def keep_scores(self) -> tuple[list[float], list[float]]:
        """How much is won by keeping each compared word of the left chunk, and of the right one (`_trust`)."""
        unmatched = set(self.unmatched[0]), set(self.unmatched[1])
        left, right = enumerate(self.left[self.first_left :], self.first_left), enumerate(self.right[: self.num_right])
        return (
            [
                _keep_score(word, self._relative_position(word), self.end - _middle(word), i in unmatched[0], True)
                for i, word in left
            ],
            [
                _keep_score(
                    word, 1 - self._relative_position(word), _middle(word) - self.begin, j in unmatched[1], False
                )
                for j, word in right
            ],
        )

    def is_inside(self, word: Word) -> bool:
        """Whether a word lies in the overlap, away from both edges: there both chunks should have heard it."""
        return word.end > self.begin + EDGE_MARGIN_S and word.start < self.end - EDGE_MARGIN_S

    def cuts_without_match(self) -> Iterator[Cut]:
        """The cuts that need no agreement: in pauses of both, and beside words of one where the other heard nothing."""
        words = sorted([*self.left[self.first_left :], *self.right[: self.num_right]], key=lambda word: word.start)
        pause_start = self.begin
        for start, end in [*((word.start, word.end) for word in words), (self.end, self.end)]:
            if start - pause_start >= MIN_SHARED_PAUSE_S:
                cut_seconds = (start + pause_start) / 2
                yield (
                    sum(word.start < cut_seconds for word in self.left),
                    sum(word.start < cut_seconds for word in self.right),
                )
            pause_start = max(pause_start, end)
        for i in self.unmatched[0]:
            count = sum(word.start < self.left[i].start for word in self.right)
            yield from ((i, count), (i + 1, count))
        for j in self.unmatched[1]:
            count = sum(word.start < self.right[j].start for word in self.left)
            yield from ((count, j), (count, j + 1))

    def score(self, cut: Cut, pairs: Set[Cut]) -> float:
        """How good a cut is, in seconds of speech: trust in what stays, agreed words around it, the pause there."""
        i, j = cut
        kept_score = sum(self.keep_scores[0][: max(0, i - self.first_left)]) + sum(self.keep_scores[1][j:])
        ends = [word.end for word in (*self.left[max(0, i - 1) : i], *self.right[max(0, j - 1) : j])]
        starts = [word.start for word in (*self.left[i : i + 1], *self.right[j : j + 1])]
        pause = (
            min(starts) - max(ends) if starts and ends else MIN_SHARED_PAUSE_S
        )  # of both: what is not kept is no pause
        pause_support = 2 * (pause >= MIN_SHARED_PAUSE_S)  # as good as two agreed words
        left_support = max(pause_support, ((i - 1, j - 1) in pairs) * (1 + ((i - 2, j - 2) in pairs)))
        right_support = max(pause_support, ((i, j) in pairs) * (1 + ((i + 1, j + 1) in pairs)))
        return (
            kept_score
            + MATCHED_NEIGHBOR_SCORE_S * (left_support + right_support)
            + PAUSE_SCORE_PER_S * min(MIN_SHARED_PAUSE_S, max(0.0, pause))
        )

    def cut_time(self, cut: Cut) -> float:
        """The second of a cut, within the overlap."""
        i, j = cut
        until = self.left[i - 1].end if i else self.begin
        since = self.right[j].start if j < len(self.right) else self.end
        return min(self.end, max(self.begin, (until + since) / 2))

    def _relative_position(self, word: Word) -> float:
        """Where a word lies: 0 at the right chunk's beginning, 1 at the left chunk's end."""
        return min(1.0, max(0.0, (_middle(word) - self.begin) / (self.end - self.begin)))


def _keep_score(
    word: Word, edge_proximity: float, edge_distance_seconds: float, is_unmatched: bool, is_left: bool
) -> float:
    """How much is won by keeping a word: its probability less its nearness to its chunk's edge, times its length.

    `nearness` is 1 at the edge of the chunk that heard it, `seconds` away, and 0 at the other end of the overlap. In
    a stretch that both heard alike the sum of it is largest for a cut in the middle.

    A word at whose time the other chunk heard nothing weighs `ALONE` times as much, for without it there is a hole, and
    little probability will do, for chunks skip words more often than they make them up. What they do make up is last
    words in silence, so those must be likely; a first word is unlikely for want of context, and still mostly right.
    """
    duration = min(1.0, max(0.1, word.end - word.start))
    if not is_unmatched:
        return duration * (word.probability - edge_proximity)
    expected_probability = 0.3 * edge_proximity
    if is_left and edge_distance_seconds < EDGE_MARGIN_S / 2:
        expected_probability = 0.75 * edge_proximity
    elif not is_left and edge_distance_seconds < EDGE_MARGIN_S:
        expected_probability = 0.0
    return UNMATCHED_WORD_WEIGHT * duration * (word.probability - expected_probability)


def _overlap_in_time(word: Word, other_word: Word) -> bool:
    return word.start - other_word.end < MIN_UNMATCHED_GAP_S and other_word.start - word.end < MIN_UNMATCHED_GAP_S


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2
