"""Which words of a window's transcript belong to which of its utterances.

The teacher hears a window of several utterances at once. To judge them one by one, its words are cut into one stretch
per utterance. With references the cut is where the alignment says: the smallest sum of edit costs over all ways to
cut equals the edit cost of the whole (each alignment passes the end of every reference somewhere), so one alignment
of the whole window gives the best cut. Words are compared in a simplified form, and words that look alike cost less
than words that do not, so that a misheard word stays with its utterance.
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
_EMPTY_WORD_COST = 0.1  # cost of leaving out a word that is nothing but punctuation; any other costs 1
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…")
_CLOSING_PUNCTUATION = "\"'”’»)]」』"


def split_hypothesis(words: Sequence[str], references: Sequence[str], *, by_character: bool = False) -> list[Range]:
    """For each reference, in order, the half-open range of `words` that belongs to it.

    `words`: what the teacher heard in a whole window, in its original form. `references`: transcripts of the window's
    utterances. The ranges follow each other without gap, cover all words, and may be empty. Words heard between two
    utterances that match neither go to the next one if a sentence ends before them, else to the one before.
    `by_character` aligns characters instead of words, for languages written without spaces; the cut still lies
    between two `words`.
    """
    if not references:
        return []
    units, word_indices = _alignment_units(words, by_character)
    reference_units = [_alignment_units(reference.split(), by_character)[0] for reference in references]
    ends = list(accumulate(len(ref_units) for ref_units in reference_units))
    crossings = _find_crossings([unit for ref_units in reference_units for unit in ref_units], units, ends[:-1])
    cuts = [0]
    for earliest, latest in crossings:
        low, high = (_nearest_word_cut(unit_index, word_indices, len(words)) for unit_index in (earliest, latest))
        cuts.append(max(cuts[-1], _choose_cut(words, low, high)))
    return list(pairwise([*cuts, len(words)]))


def split_without_reference(
    num_words: int, durations: Sequence[float], word_times: Sequence[float] | None = None
) -> list[Range]:
    """Cut `words` words of a window among utterances of these durations (seconds) that have no transcript.

    With `word_times` (seconds from the window's start, the middle of each word, `words` of them) by time; without,
    each utterance gets words in proportion to its duration. Ranges as in `split_hypothesis`.
    """
    if not durations:
        return []
    ends = list(accumulate(durations))
    if word_times is None:
        cuts = [round(num_words * end / ends[-1]) if ends[-1] > 0 else num_words for end in ends[:-1]]
    else:
        if len(word_times) != num_words:
            raise ValueError(f"{num_words} words but {len(word_times)} times")
        monotonic_times = np.maximum.accumulate(np.asarray(word_times, dtype=np.float64)) if num_words else np.empty(0)
        cuts = [int(np.searchsorted(monotonic_times, end, side="left")) for end in ends[:-1]]
    return list(pairwise([0, *cuts, num_words]))


def _alignment_units(words: Sequence[str], by_character: bool) -> tuple[list[str], list[int]]:
    """What is aligned, in simplified form, and the index of the word that each belongs to."""
    if not by_character:
        return [normalize_word(word) for word in words], list(range(len(words)))
    pairs = [(unit, i) for i, word in enumerate(words) for unit in split_into_characters(normalize_word(word)) or [""]]
    return [unit for unit, _ in pairs], [i for _, i in pairs]


def _nearest_word_cut(unit_index: int, word_indices: list[int], num_words: int) -> int:
    """The cut between words next to the cut `at` between units (inside a word: before or after, the nearer)."""
    if unit_index == len(word_indices):
        return num_words
    word_index = word_indices[unit_index]
    if unit_index == 0 or word_indices[unit_index - 1] != word_index:
        return word_index
    first_unit = word_indices.index(word_index)
    num_units = word_indices.count(word_index)
    return word_index if 2 * (unit_index - first_unit) < num_units else word_index + 1


def _choose_cut(words: Sequence[str], low: int, high: int) -> int:
    """A cut from `low` to `high`: the words between match nothing. After the last end of a sentence, else `high`."""
    for cut in range(high, max(low, 1) - 1, -1):
        if words[cut - 1].rstrip().rstrip(_CLOSING_PUNCTUATION).endswith(_SENTENCE_ENDS):
            return cut
    return high


def _find_crossings(reference: list[str], hypothesis: list[str], row_indices: Sequence[int]) -> list[Range]:
    """Where the cheapest alignment crosses each row: first and last hypothesis position at that reference position.

    Edit distance over a table of `[len(reference) + 1, len(hypothesis) + 1]`, one numpy row at a time. A row's
    insertions are a running minimum: `row[j] = min over k <= j of best[k] + cost of inserting k..j`.
    """
    insertion_costs = np.concatenate([[0.0], np.cumsum(_gap_costs(hypothesis))])
    deletion_costs = _gap_costs(reference)
    substitution_costs = _substitution_costs(reference, hypothesis)
    cost_table = np.empty((len(reference) + 1, len(hypothesis) + 1))
    cost_table[0] = insertion_costs
    for i, cost in enumerate(deletion_costs):
        best = cost_table[i] + cost
        best[1:] = np.minimum(best[1:], cost_table[i, :-1] + substitution_costs[i])
        cost_table[i + 1] = np.minimum.accumulate(best - insertion_costs) + insertion_costs
    return _backtrace(cost_table.tolist(), insertion_costs.tolist(), substitution_costs.tolist(), row_indices)


def _backtrace(
    cost_table: list[list[float]],
    insertion_costs: list[float],
    substitution_costs: list[list[float]],
    row_indices: Sequence[int],
) -> list[Range]:
    """The cheapest path through the table, backwards, and where it crosses `rows`."""
    earliest, latest = [0] * len(cost_table), [0] * len(cost_table)
    i, j = len(cost_table) - 1, len(insertion_costs) - 1
    latest[i] = j
    while i or j:
        # Backwards, and a step back over an inserted word first: so the first of several equal stretches is matched
        # and the others follow it, as they do when the teacher loops.
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
    """Cost of each replacement `[reference, hypothesis]`: 0 for equal words, 1 for words without likeness."""
    if not reference or not hypothesis:
        return np.zeros((len(reference), len(hypothesis)))
    distances: CostArray = cdist(reference, hypothesis, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    return distances
