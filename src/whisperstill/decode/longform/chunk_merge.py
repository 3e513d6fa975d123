"""Transcripts of overlapping chunks made one: words are aligned on the overlap, and the cut falls where both agree.

A chunk is least sure of its two ends: the last word may be cut or invented, the first as well, and what stands there is
timed badly. Two neighbours share c/3 seconds (paper, section 3), so what one heard at its end the other heard further
from an edge of its own. Tokens compared without times (as in bench/) mistake a repeated word for the same word
and are at a loss where one chunk has a word more than the other; here a pair of words must be alike in letters and
near in time, and gaps are free.

The trap is a cut between two words that were not heard by both: it doubles a word or loses one. So a cut is only ever
made beside an agreed pair or in a pause of both, and where nothing agrees `merge` says so (None), it does not guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rapidfuzz.distance import Levenshtein

from whisperstill.decode.longform.chunk_overlap import ChunkOverlap, Cut
from whisperstill.decode.output.transcript import Word
from whisperstill.text.languages import UNSPACED_LANGUAGES
from whisperstill.text.normalizers import normalize_word

MAX_SAME_WORD_GAP_S = 3.0
"""Seconds between two words from which on they are not the same, whatever they say."""
HALF_SCORE_GAP_S = 0.5
"""Seconds between two words that halve the credit of a pair; cross-attention is off by 0.05 to 0.3 s."""
MIN_WORD_SIMILARITY = 0.6
"""Share of equal letters from which on two words may be the same one, heard differently."""
CONSECUTIVE_PAIR_BONUS = 0.1
"""Credit for a pair that follows a pair at once."""
MAX_UNPAIRED_WORDS_IN_CHAIN = 2
"""Words without partner, on either side, that do not break a chain of pairs."""
MIN_CHUNK_MATCH_SCORE = 0.6
"""Credit of a chain of pairs from which on it counts as agreement: one word, said at the same time."""
MAX_WORDS_FOR_BASE_SCORE = 3
"""Where both have more words than this, twice as much is needed, and again where words are single characters."""
MAX_DISTINCT_LOOP_WORDS = 4
"""Different words, at most, of a loop, in which they come three times each or more."""


@dataclass(frozen=True, slots=True)
class MergePoint:
    """Where the words of two chunks are joined: `left[: self.left] + right[self.right :]`."""

    left_end: int
    """How many words of the left chunk stay."""
    right_start: int
    """The first word of the right chunk that stays."""
    time: float
    """Seconds of the recording."""
    matched: bool = True
    """Whether words of both chunks agree there, or one of them heard nothing; else it is a guess."""


def find_merge_point(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint | None:
    """The seam of two neighbours that share the seconds from `begin` (of the right one) to `end` (of the left one).

    Words are in order, in seconds of the recording. Cuts lie beside words on which both agree, in a pause of both, or
    where one heard nothing, and never part a pair; the best one (`Overlap.worth`) is near the middle of the overlap,
    among agreed words. Where at most one of them has words, leaving out those within `EDGE` of either end, which an
    edge may have cut or made up, position and probability decide (`by_position`). None where both have words and do
    not agree on any: a window centred on the seam, decoded anew, is then merged with each of the two.
    """
    overlap = ChunkOverlap(left, right, begin, end)
    overlap_counts = sum(word.end > begin for word in left), sum(word.start < end for word in right)
    has_many_words = min(overlap_counts) > MAX_WORDS_FOR_BASE_SCORE
    min_score = MIN_CHUNK_MATCH_SCORE * (1 + has_many_words) * (1 + (has_many_words and language in UNSPACED_LANGUAGES))
    chains = [
        chain for chain in _split_into_chains(_align_words(overlap)) if sum(pair[2] for pair in chain) >= min_score
    ]
    pairs = {(i, j) for chain in chains for i, j, _ in chain}
    if not pairs and all(any(overlap.is_inside(word) for word in side) for side in (left, right)):
        return None
    cuts = {(i + step, j + step) for i, j in pairs for step in (0, 1)}
    for left_cut, right_cut in overlap.cuts_without_match():
        if all(
            (i < left_cut) == (j < right_cut) for i, j in pairs
        ):  # else it parts a pair, and doubles its word or loses it
            cuts.add((left_cut, right_cut))
    if not pairs:
        cuts.add(_cut_by_position(overlap))
    best_cut = max(sorted(cuts), key=lambda cut: overlap.score(cut, pairs))
    return MergePoint(*best_cut, overlap.cut_time(best_cut))


def merge_by_position(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> MergePoint:
    """The seam where words cannot be compared: of each chunk stays what is likelier right than not (`Overlap.trusts`).

    Of the left chunk the beginning with the largest sum of trust stays, of the right one the end.
    """
    overlap = ChunkOverlap(left, right, begin, end)
    cut = _cut_by_position(overlap)
    return MergePoint(*cut, overlap.cut_time(cut))


def merge_without_match(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> MergePoint:
    """The seam of last resort, where both have words that disagree: each keeps its half of the overlap.

    But a chunk in a loop, its words a few that come again and again, keeps nothing there. And where one has less than
    half as many words as the other, it has probably skipped what the other heard, and its words, which belong
    somewhere else, are spread over it: then all words stay.
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
    """How likely two words are the same, 0 to 1: likeness of letters times nearness in time."""
    gap_seconds = (abs(left.start - right.start) + abs(left.end - right.end)) / 2
    if gap_seconds > MAX_SAME_WORD_GAP_S:
        return 0.0
    left_text, right_text = normalize_word(left.word), normalize_word(right.word)
    similarity = float(Levenshtein.normalized_similarity(left_text, right_text)) if left_text and right_text else 0.0
    return similarity**2 / (1 + (gap_seconds / HALF_SCORE_GAP_S) ** 2) if similarity >= MIN_WORD_SIMILARITY else 0.0


def _align_words(overlap: ChunkOverlap) -> list[tuple[int, int, float]]:
    """The pairs of an alignment with the largest sum of credits, in order, as (left, right, credit).

    Needleman and Wunsch's table with free gaps and credit for pairs in a row; where times are equal, text decides, and
    where texts repeat, times do.
    """
    rows = range(overlap.first_left, len(overlap.left))
    columns = range(overlap.num_right)
    scores = [[_match_score(overlap.left[i], overlap.right[j]) for j in columns] for i in rows]
    minus_infinity = float("-inf")
    best_scores = [[0.0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    paired_scores = [
        [minus_infinity] * (len(columns) + 1) for _ in range(len(rows) + 1)
    ]  # the last of each side are a pair
    for i in range(len(rows)):
        for j in range(len(columns)):
            if scores[i][j] > 0:
                paired_scores[i + 1][j + 1] = scores[i][j] + max(
                    best_scores[i][j], paired_scores[i][j] + CONSECUTIVE_PAIR_BONUS
                )
            best_scores[i + 1][j + 1] = max(best_scores[i][j + 1], best_scores[i + 1][j], paired_scores[i + 1][j + 1])
    pairs: list[tuple[int, int, float]] = []
    i, j, must_pair = len(rows), len(columns), False
    while i and j:
        if must_pair or paired_scores[i][j] >= max(best_scores[i - 1][j], best_scores[i][j - 1]):
            must_pair = paired_scores[i - 1][j - 1] + CONSECUTIVE_PAIR_BONUS >= best_scores[i - 1][j - 1]
            i, j = i - 1, j - 1
            pairs.append((rows[i], columns[j], scores[i][j]))
        elif best_scores[i - 1][j] >= best_scores[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _split_into_chains(pairs: Sequence[tuple[int, int, float]]) -> Iterator[list[tuple[int, int, float]]]:
    """Pairs in groups: a group ends where more than `GAP` words of one side have no partner."""
    chain = list(pairs[:1])
    for previous, pair in pairwise(pairs):
        if max(pair[0] - previous[0], pair[1] - previous[1]) > MAX_UNPAIRED_WORDS_IN_CHAIN + 1:
            yield chain
            chain = []
        chain.append(pair)
    if chain:
        yield chain


def _cut_by_position(overlap: ChunkOverlap) -> Cut:
    left_end = overlap.first_left + _best_prefix_length(overlap.keep_scores[0])
    return left_end, overlap.num_right - _best_prefix_length(overlap.keep_scores[1][::-1])


def _best_prefix_length(values: Sequence[float]) -> int:
    """How many values from the front have the largest sum; the most of them where sums are equal."""
    sums = [0.0, *accumulate(values)]
    return max(range(len(sums)), key=lambda count: (sums[count], count))
