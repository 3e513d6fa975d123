"""Assigns the words of a window's transcript to its utterances.

The teacher transcribes a window of several utterances at once; its words are split into one range per utterance. With
references the split follows a Needleman-Wunsch alignment of the whole window: the smallest sum of edit costs over all
splits equals the edit cost of the whole (every alignment crosses the end of each reference somewhere), so one
alignment gives the optimal split. Words are normalized first, and the cost of a substitution is the normalized
Levenshtein distance, so that a misspelled word stays with its utterance.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from whisperstill.text.normalizers import normalize_word, split_into_characters

Range = tuple[int, int]
CostArray = npt.NDArray[np.float64]
_EMPTY_WORD_COST = 0.1  # insertion or deletion of a word without letters or digits; any other word costs 1
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…")
_CLOSING_PUNCTUATION = "\"'”’»)]」』"


def split_hypothesis(words: Sequence[str], references: Sequence[str], *, by_character: bool = False) -> list[Range]:
    """Half-open range of `words` for each reference, in order.

    `words` is the transcript of a window, `references` are the transcripts of its utterances, neither normalized. The
    ranges are contiguous, cover all words, and may be empty. Words between two utterances that match neither belong to
    the second if a sentence ends before them, else to the first. `by_character` aligns characters instead of words,
    for unspaced languages; ranges still consist of whole `words`.
    """
    if not references:
        return []
    # 1. Align all words with all references.
    units, word_indices = _alignment_units(words, by_character)
    reference_units = [_alignment_units(reference.split(), by_character)[0] for reference in references]
    ends = list(accumulate(len(ref_units) for ref_units in reference_units))
    crossings = _find_crossings([unit for ref_units in reference_units for unit in ref_units], units, ends[:-1])
    # 2. Cut where the alignment crosses the end of each reference.
    cuts = [0]
    for earliest, latest in crossings:
        low, high = (_nearest_word_cut(unit_index, word_indices, len(words)) for unit_index in (earliest, latest))
        cuts.append(max(cuts[-1], _choose_cut(words, low, high)))
    return list(pairwise([*cuts, len(words)]))


def split_without_reference(
    num_words: int, durations: Sequence[float], word_times: Sequence[float] | None = None
) -> list[Range]:
    """Ranges as in `split_hypothesis`, for utterances of these durations (seconds) without references.

    Words are assigned by `word_times` (seconds from the window's start, one per word); without, each utterance gets
    words in proportion to its duration.
    """
    if not durations:
        return []
    ends = list(accumulate(durations))
    if word_times is None:
        cuts = [round(num_words * end / ends[-1]) if ends[-1] > 0 else num_words for end in ends[:-1]]
    else:
        if len(word_times) != num_words:
            raise ValueError(f"expected a time for each of {num_words} words, got {len(word_times)}")
        monotonic_times = np.maximum.accumulate(np.asarray(word_times, dtype=np.float64)) if num_words else np.empty(0)
        cuts = [int(np.searchsorted(monotonic_times, end, side="left")) for end in ends[:-1]]
    return list(pairwise([0, *cuts, num_words]))


def _alignment_units(words: Sequence[str], by_character: bool) -> tuple[list[str], list[int]]:
    """Normalized words or characters to align, and the index of the word each belongs to."""
    if not by_character:
        return [normalize_word(word) for word in words], list(range(len(words)))
    pairs = [(unit, i) for i, word in enumerate(words) for unit in split_into_characters(normalize_word(word)) or [""]]
    return [unit for unit, _ in pairs], [i for _, i in pairs]


def _nearest_word_cut(unit_index: int, word_indices: list[int], num_words: int) -> int:
    """The cut between words for a cut between units; a cut inside a word moves to the nearer end of the word."""
    if unit_index == len(word_indices):
        return num_words
    word_index = word_indices[unit_index]
    if unit_index == 0 or word_indices[unit_index - 1] != word_index:
        return word_index
    first_unit = word_indices.index(word_index)
    num_units = word_indices.count(word_index)
    return word_index if 2 * (unit_index - first_unit) < num_units else word_index + 1


def _choose_cut(words: Sequence[str], low: int, high: int) -> int:
    """A cut from `low` to `high`, whose words match no reference: after the last sentence end, else `high`."""
    for cut in range(high, max(low, 1) - 1, -1):
        if words[cut - 1].rstrip().rstrip(_CLOSING_PUNCTUATION).endswith(_SENTENCE_ENDS):
            return cut
    return high


def _find_crossings(reference: list[str], hypothesis: list[str], row_indices: Sequence[int]) -> list[Range]:
    """First and last hypothesis position where the cheapest alignment crosses each of the given reference positions.

    Fills the cost table `[len(reference) + 1, len(hypothesis) + 1]` one numpy row at a time. Insertions within a row
    are a running minimum: `row[j] = min over k <= j of best[k] + cost of inserting k..j`.
    """
    insertion_costs = np.concatenate([[0.0], np.cumsum(_gap_costs(hypothesis))])
    deletion_costs = _gap_costs(reference)
    substitution_costs = _substitution_costs(reference, hypothesis)
    cost_table = np.empty((len(reference) + 1, len(hypothesis) + 1))
    cost_table[0] = insertion_costs
    for i, cost in enumerate(deletion_costs):
        best = cost_table[i] + cost  # deletion of a reference word
        best[1:] = np.minimum(best[1:], cost_table[i, :-1] + substitution_costs[i])
        cost_table[i + 1] = np.minimum.accumulate(best - insertion_costs) + insertion_costs
    return _backtrace(cost_table.tolist(), insertion_costs.tolist(), substitution_costs.tolist(), row_indices)


def _backtrace(
    cost_table: list[list[float]],
    insertion_costs: list[float],
    substitution_costs: list[list[float]],
    row_indices: Sequence[int],
) -> list[Range]:
    """Follows the cheapest path back through the table; returns where it crosses `row_indices`."""
    earliest, latest = [0] * len(cost_table), [0] * len(cost_table)
    i, j = len(cost_table) - 1, len(insertion_costs) - 1
    latest[i] = j
    while i or j:
        # Insertions are undone first: of several equal phrases (a looping teacher) the first one is matched.
        if j and _is_close(cost_table[i][j], cost_table[i][j - 1] + insertion_costs[j] - insertion_costs[j - 1]):
            j -= 1
            continue
        earliest[i] = j
        if i and j and _is_close(cost_table[i][j], cost_table[i - 1][j - 1] + substitution_costs[i - 1][j - 1]):
            j -= 1
        i -= 1
        latest[i] = j
    return [(earliest[row], latest[row]) for row in row_indices]


def _is_close(a: float, b: float) -> bool:
    return abs(a - b) < 1e-6


def _gap_costs(words: list[str]) -> CostArray:
    return np.array([1.0 if word else _EMPTY_WORD_COST for word in words], dtype=np.float64)


def _substitution_costs(reference: list[str], hypothesis: list[str]) -> CostArray:
    """Substitution costs `[reference, hypothesis]`: 0 for equal words, 1 for words with nothing in common."""
    if not reference or not hypothesis:
        return np.zeros((len(reference), len(hypothesis)))
    distances: CostArray = cdist(reference, hypothesis, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    return distances
