"""Merging overlapping chunks: words are aligned in the overlap, and the cut is made where both chunks agree.

A chunk is least certain at its two ends: the first or last word may be cut off or hallucinated, and its timestamps are
poor. Neighbours share a third of a chunk (Distil-Whisper paper, section 3), so words at the end of one lie further
from an edge in the other. The longest common sequence of tokens without times (bench/token_overlap_merge.py) confuses
repeated words and fails where one chunk has an additional word; here two words match if they are similar in letters
and close in time, and gaps in the alignment are free.

A cut between words that only one chunk transcribed would double or lose a word. Cuts are therefore made only beside
matched words or in a pause of both chunks; where nothing matches, `find_merge_point` returns None instead of guessing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from rapidfuzz.distance import Levenshtein

from whisperstill.decode.longform.chunk_overlap import ChunkOverlap, Cut
from whisperstill.decode.output.transcript import Word
from whisperstill.text.edit_distance import align_by_score
from whisperstill.text.languages import UNSPACED_LANGUAGES
from whisperstill.text.normalizers import normalize_word

MAX_SAME_WORD_GAP_S = 3.0
"""Time between two words above which they never match."""
HALF_SCORE_GAP_S = 0.5
"""Time between two words that halves their match score; cross-attention times are off by 0.05 to 0.3 s."""
MIN_WORD_SIMILARITY = 0.6
"""Normalized Levenshtein similarity below which two words never match."""
CONSECUTIVE_PAIR_BONUS = 0.1
"""Score of a pair that directly follows another pair."""
MAX_UNPAIRED_WORDS_IN_CHAIN = 2
"""Unmatched words, on either side, that do not break a chain of pairs."""
MIN_CHUNK_MATCH_SCORE = 0.6
"""Score at which a chain of pairs counts as a match: one identical word at the same time is enough."""
MAX_WORDS_FOR_BASE_SCORE = 3
"""If both chunks have more words than this in the overlap, the score must be twice as high, and twice that for
languages whose words are single characters."""
MAX_DISTINCT_LOOP_WORDS = 4
"""Most distinct words of a repetition loop; each occurs three times or more on average."""

WordPair = tuple[int, int, float]
"""Index of the left word, index of the right word, match score."""


@dataclass(frozen=True, slots=True)
class MergePoint:
    """Where the words of two chunks are joined: `left[:left_end] + right[right_start:]`."""

    left_end: int
    """Number of words kept of the left chunk."""
    right_start: int
    """Index of the first word kept of the right chunk."""
    time: float
    """Seconds of the recording."""
    matched: bool = True
    """Whether words of both chunks match, or one chunk has none; False for a guess."""


class ChunkMerger:
    """Merges the chunks of one recording, added in order of time; holds the words of the last chunk only.

    A chunk that does not match the previous one is merged by `merge_without_match`. For a better result, check
    `can_merge` first and, if False, add a chunk centred on the overlap that matches both.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.merge_points: list[MergePoint] = []
        """One per chunk after the first; indices count within the compared words."""
        self._pending_words: list[Word] = []
        self._last_chunk_end: float | None = None
        self._last_merge_time = 0.0
        """Seconds of the last merge point: words before it are final."""
        self._last_word_end = 0.0

    def can_merge(self, words: Sequence[Word], begin: float) -> bool:
        """Whether the chunk that begins at `begin` seconds matches the last chunk."""
        begin, last_end = max(begin, self._last_merge_time), self._last_chunk_end
        if last_end is None or begin >= last_end:
            return True
        undecided = self._undecided_words(words)
        return find_merge_point(self._pending_words, undecided, begin, last_end, self.language) is not None

    def add_chunk(self, words: Sequence[Word], begin: float, end: float) -> list[Word]:
        """Merge the chunk from `begin` to `end` seconds; returns the words that became final."""
        if self._last_chunk_end is None:
            self._pending_words, self._last_chunk_end = list(words), end
            return []
        # 1. Find the merge point with the pending words.
        begin, last_end = max(begin, self._last_merge_time), self._last_chunk_end
        pending, undecided = self._pending_words, self._undecided_words(words)
        if begin >= last_end:  # no overlap, nothing to compare
            merge_point = MergePoint(len(pending), 0, (begin + last_end) / 2)
        else:
            matched_point = find_merge_point(pending, undecided, begin, last_end, self.language)
            merge_point = matched_point or merge_without_match(pending, undecided, begin, last_end)
        # 2. Words left of it are final; an end is often too late before a pause.
        final_words, pending = pending[: merge_point.left_end], undecided[merge_point.right_start :]
        if final_words and pending and final_words[-1].end > pending[0].start:
            final_words[-1] = replace(final_words[-1], end=max(final_words[-1].start, pending[0].start))
        # 3. Words right of it wait for the next chunk.
        self.merge_points.append(merge_point)
        self._pending_words, self._last_chunk_end = pending, end
        self._last_merge_time = max(self._last_merge_time, merge_point.time)
        return self._without_time_overlap(final_words)

    def finish(self) -> list[Word]:
        """The remaining words; the next chunk begins another recording."""
        final_words = self._without_time_overlap(self._pending_words)
        self._pending_words, self._last_chunk_end, self._last_merge_time, self._last_word_end = [], None, 0.0, 0.0
        return final_words

    def _undecided_words(self, words: Sequence[Word]) -> list[Word]:
        """The words after the last merge point."""
        return [word for word in words if (word.start + word.end) / 2 >= self._last_merge_time]

    def _without_time_overlap(self, words: Sequence[Word]) -> list[Word]:
        """The words, none beginning before the end of the previous one."""
        ordered = []
        for word in words:
            if word.start < self._last_word_end:
                word = replace(word, start=self._last_word_end, end=max(word.end, self._last_word_end))
            self._last_word_end = word.end
            ordered.append(word)
        return ordered


def find_merge_point(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint | None:
    """The best merge point of two chunks that overlap from `begin` (of the right one) to `end` (of the left one).

    Words are in order, in seconds of the recording. Candidate cuts lie beside matched words, in pauses of both chunks,
    and beside words at whose time the other chunk has none; no cut separates a pair. The best cut has the highest
    `ChunkOverlap.score`. If at most one chunk has words away from the edges of the overlap, position and probability
    decide (`_cut_by_position`). None if both have words and none match: decode a window centred on the overlap and
    merge it with each of the two.
    """
    overlap = ChunkOverlap(left, right, begin, end)
    # 1. Align the words and keep the chains of pairs that score high enough.
    overlap_counts = sum(word.end > begin for word in left), sum(word.start < end for word in right)
    has_many_words = min(overlap_counts) > MAX_WORDS_FOR_BASE_SCORE
    min_score = MIN_CHUNK_MATCH_SCORE * (1 + has_many_words) * (1 + (has_many_words and language in UNSPACED_LANGUAGES))
    chains = _split_into_chains(_match_words(overlap))
    pairs = {(i, j) for chain in chains if sum(pair[2] for pair in chain) >= min_score for i, j, _ in chain}
    if not pairs and all(any(overlap.is_inside(word) for word in side) for side in (left, right)):
        return None
    # 2. Candidate cuts: before and after each pair, and cuts without a match that separate no pair.
    cuts = {(i + step, j + step) for i, j in pairs for step in (0, 1)}
    cuts |= {
        (left_cut, right_cut)
        for left_cut, right_cut in overlap.cuts_without_match()
        if all((i < left_cut) == (j < right_cut) for i, j in pairs)
    }
    if not pairs:
        cuts.add(_cut_by_position(overlap))
    # 3. Take the best one.
    best_cut = max(sorted(cuts), key=lambda cut: overlap.score(cut, pairs))
    return MergePoint(*best_cut, overlap.cut_time(best_cut))


def merge_without_match(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> MergePoint:
    """Fallback where both chunks have words and none match: each chunk keeps its half of the overlap.

    A chunk in a repetition loop keeps nothing of the overlap. If one chunk has less than half as many words as the
    other, it probably skipped speech and its words are badly timed: all words are kept.
    """
    middle = (begin + end) / 2
    overlap_texts = [
        [normalize_word(word.word) for word in side if word.end > begin and word.start < end] for side in (left, right)
    ]
    is_loop = [
        len(texts) >= 3 * len(set(texts)) and 0 < len(set(texts)) <= MAX_DISTINCT_LOOP_WORDS for texts in overlap_texts
    ]
    if is_loop == [True, False]:
        return MergePoint(sum(word.end <= begin for word in left), 0, middle, matched=False)
    if is_loop == [False, True]:
        return MergePoint(len(left), sum(word.start < end for word in right), middle, matched=False)
    if 2 * min(map(len, overlap_texts)) < max(map(len, overlap_texts)):
        return MergePoint(len(left), 0, middle, matched=False)
    left_end, right_start = (sum((word.start + word.end) / 2 < middle for word in side) for side in (left, right))
    return MergePoint(left_end, right_start, middle, matched=False)


def _match_score(left: Word, right: Word) -> float:
    """Score from 0 to 1 that two words are the same: squared similarity of letters, reduced by distance in time."""
    gap_seconds = (abs(left.start - right.start) + abs(left.end - right.end)) / 2
    if gap_seconds > MAX_SAME_WORD_GAP_S:
        return 0.0
    left_text, right_text = normalize_word(left.word), normalize_word(right.word)
    similarity = float(Levenshtein.normalized_similarity(left_text, right_text)) if left_text and right_text else 0.0
    return similarity**2 / (1 + (gap_seconds / HALF_SCORE_GAP_S) ** 2) if similarity >= MIN_WORD_SIMILARITY else 0.0


def _match_words(overlap: ChunkOverlap) -> list[WordPair]:
    """Pairs of matching words, in order; text decides between equal times, times decide between equal texts."""
    first, left, right = overlap.first_left, overlap.left[overlap.first_left :], overlap.right[: overlap.num_right]
    scores = [[_match_score(left_word, right_word) for right_word in right] for left_word in left]
    return [(first + i, j, scores[i][j]) for i, j in align_by_score(scores, CONSECUTIVE_PAIR_BONUS)]


def _split_into_chains(pairs: Sequence[WordPair]) -> Iterator[list[WordPair]]:
    """Pairs in groups, split where more than `MAX_UNPAIRED_WORDS_IN_CHAIN` words of one side are unmatched."""
    chain = list(pairs[:1])
    for previous, pair in pairwise(pairs):
        if max(pair[0] - previous[0], pair[1] - previous[1]) > MAX_UNPAIRED_WORDS_IN_CHAIN + 1:
            yield chain
            chain = []
        chain.append(pair)
    if chain:
        yield chain


def _cut_by_position(overlap: ChunkOverlap) -> Cut:
    """The prefix of the left chunk and the suffix of the right chunk with the largest sums of `keep_scores`."""
    left_end = overlap.first_left + _best_prefix_length(overlap.keep_scores[0])
    return left_end, overlap.num_right - _best_prefix_length(overlap.keep_scores[1][::-1])


def _best_prefix_length(values: Sequence[float]) -> int:
    """Length of the prefix with the largest sum; the longest of equal ones."""
    sums = [0.0, *accumulate(values)]
    return max(range(len(sums)), key=lambda count: (sums[count], count))
