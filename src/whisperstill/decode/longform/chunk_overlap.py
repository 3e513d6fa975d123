"""The overlap of two neighbouring chunks: candidate cuts, and the score of a cut."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from whisperstill.decode.output.transcript import Word

Cut: TypeAlias = tuple[int, int]
"""Number of words kept of the left chunk, index of the first word kept of the right chunk."""

COMPARISON_MARGIN_S = 1.0
"""Words this far outside the overlap are still compared: word times are not exact."""
EDGE_MARGIN_S = 1.0
"""Words this close to an edge of the overlap need no match."""
MIN_SHARED_PAUSE_S = 0.5
"""Pause of both chunks in which a cut needs no match."""
MIN_UNMATCHED_GAP_S = 0.5
"""A word this far from all words of the other chunk is unmatched: the other chunk has no word at its time."""
UNMATCHED_WORD_WEIGHT = 6
"""Weight of an unmatched word: without it there is a hole in the transcript."""
MATCHED_NEIGHBOR_SCORE_S = 0.25
"""Score, in seconds of speech, of each matched word beside a cut; at most two on either side count."""
PAUSE_SCORE_PER_S = 0.5
"""Score of a pause at the cut, per second; at most `MIN_SHARED_PAUSE_S` seconds count."""


@dataclass(frozen=True)
class ChunkOverlap:
    """Words of a left chunk that ends at `end` and a right chunk that begins at `begin`; indices count their words."""

    left: Sequence[Word]
    right: Sequence[Word]
    begin: float
    end: float

    @cached_property
    def first_left(self) -> int:
        """Index of the first left word compared."""
        compared = (i for i, word in enumerate(self.left) if word.end > self.begin - COMPARISON_MARGIN_S)
        return next(compared, len(self.left))

    @cached_property
    def num_right(self) -> int:
        """Number of right words compared."""
        not_compared = (j for j, word in enumerate(self.right) if word.start >= self.end + COMPARISON_MARGIN_S)
        return next(not_compared, len(self.right))

    @cached_property
    def compared(self) -> tuple[list[tuple[int, Word]], list[tuple[int, Word]]]:
        """Compared words of the left and of the right chunk, with their indices."""
        return [*enumerate(self.left)][self.first_left :], [*enumerate(self.right)][: self.num_right]

    @cached_property
    def unmatched(self) -> tuple[list[int], list[int]]:
        """Indices of compared words (left, right) at whose time the other chunk has no word within the overlap."""
        left, right = self.compared
        left_inside = [word for _, word in left if word.end > self.begin]
        right_inside = [word for _, word in right if word.start < self.end]
        return _without_counterpart(left, right_inside), _without_counterpart(right, left_inside)

    @cached_property
    def keep_scores(self) -> tuple[list[float], list[float]]:
        """Score of keeping each compared word of the left and of the right chunk."""
        left, right = self.compared
        return (
            [self._keep_score(word, i in self.unmatched[0], is_left=True) for i, word in left],
            [self._keep_score(word, j in self.unmatched[1], is_left=False) for j, word in right],
        )

    def is_inside(self, word: Word) -> bool:
        """Whether a word lies in the overlap away from its edges, where both chunks should have transcribed it."""
        return word.end > self.begin + EDGE_MARGIN_S and word.start < self.end - EDGE_MARGIN_S

    def cuts_without_match(self) -> Iterator[Cut]:
        """Cuts that need no matched words: in pauses of both chunks, and beside unmatched words."""
        # 1. Pauses of both chunks.
        left, right = self.compared
        words = sorted((word for _, word in (*left, *right)), key=lambda word: word.start)
        pause_start = self.begin
        for start, end in [*((word.start, word.end) for word in words), (self.end, self.end)]:
            if start - pause_start >= MIN_SHARED_PAUSE_S:
                cut_seconds = (start + pause_start) / 2
                yield _num_started(self.left, cut_seconds), _num_started(self.right, cut_seconds)
            pause_start = max(pause_start, end)
        # 2. Before and after unmatched words.
        for i in self.unmatched[0]:
            count = _num_started(self.right, self.left[i].start)
            yield from ((i, count), (i + 1, count))
        for j in self.unmatched[1]:
            count = _num_started(self.left, self.right[j].start)
            yield from ((count, j), (count, j + 1))

    def score(self, cut: Cut, pairs: Set[Cut]) -> float:
        """Score of a cut in seconds of speech: scores of the words kept, matched words around it, pause at the cut."""
        i, j = cut
        kept_score = sum(self.keep_scores[0][: max(0, i - self.first_left)]) + sum(self.keep_scores[1][j:])
        ends = [word.end for word in (*self.left[max(0, i - 1) : i], *self.right[max(0, j - 1) : j])]
        starts = [word.start for word in (*self.left[i : i + 1], *self.right[j : j + 1])]
        # A pause of both chunks: words that are not kept are no pause.
        pause = min(starts) - max(ends) if starts and ends else MIN_SHARED_PAUSE_S
        pause_support = 2 * (pause >= MIN_SHARED_PAUSE_S)  # as good as two matched words
        left_support = max(pause_support, ((i - 1, j - 1) in pairs) * (1 + ((i - 2, j - 2) in pairs)))
        right_support = max(pause_support, ((i, j) in pairs) * (1 + ((i + 1, j + 1) in pairs)))
        return (
            kept_score
            + MATCHED_NEIGHBOR_SCORE_S * (left_support + right_support)
            + PAUSE_SCORE_PER_S * min(MIN_SHARED_PAUSE_S, max(0.0, pause))
        )

    def cut_time(self, cut: Cut) -> float:
        """Seconds of the recording at which a cut lies, within the overlap."""
        i, j = cut
        until = self.left[i - 1].end if i else self.begin
        since = self.right[j].start if j < len(self.right) else self.end
        return min(self.end, max(self.begin, (until + since) / 2))

    def _keep_score(self, word: Word, is_unmatched: bool, is_left: bool) -> float:
        """Score of keeping a word: (probability - proximity to the edge of its chunk) x duration.

        The proximity is 1 at the edge of the word's own chunk and 0 at the other end of the overlap. Where both chunks
        agree, the sum is largest for a cut in the middle.

        An unmatched word weighs `UNMATCHED_WORD_WEIGHT` times as much and needs a lower probability, because chunks
        skip words more often than they hallucinate them. Hallucinated words are mostly last words in silence, so those
        need a high probability; first words have a low probability for lack of context but are mostly right.
        """
        middle, duration = (word.start + word.end) / 2, min(1.0, max(0.1, word.end - word.start))
        position = min(1.0, max(0.0, (middle - self.begin) / (self.end - self.begin)))
        edge_proximity = position if is_left else 1 - position
        if not is_unmatched:
            return duration * (word.probability - edge_proximity)
        expected_probability = 0.3 * edge_proximity
        if is_left and self.end - middle < EDGE_MARGIN_S / 2:
            expected_probability = 0.75 * edge_proximity
        elif not is_left and middle - self.begin < EDGE_MARGIN_S:
            expected_probability = 0.0
        return UNMATCHED_WORD_WEIGHT * duration * (word.probability - expected_probability)


def _without_counterpart(words: Sequence[tuple[int, Word]], others: Sequence[Word]) -> list[int]:
    """Indices of the words that are `MIN_UNMATCHED_GAP_S` or more away from all `others`."""

    def gap(word: Word, other: Word) -> float:
        return max(word.start - other.end, other.start - word.end)

    return [index for index, word in words if all(gap(word, other) >= MIN_UNMATCHED_GAP_S for other in others)]


def _num_started(words: Sequence[Word], seconds: float) -> int:
    return sum(word.start < seconds for word in words)
