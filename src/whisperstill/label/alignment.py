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

from whisperstill.text.normalise import characters, simple_word

Range = tuple[int, int]
Costs = npt.NDArray[np.float64]
_EMPTY_WORD = 0.1  # cost of leaving out a word that is nothing but punctuation; any other costs 1
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…")
_AFTER_SENTENCE = "\"'”’»)]」』"


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
    units, owners = _units(words, by_character)
    reference_units = [_units(reference.split(), by_character)[0] for reference in references]
    ends = list(accumulate(len(each) for each in reference_units))
    crossings = _crossings([u for each in reference_units for u in each], units, ends[:-1])
    cuts = [0]
    for earliest, latest in crossings:
        low, high = (_word_cut(at, owners, len(words)) for at in (earliest, latest))
        cuts.append(max(cuts[-1], _best_cut(words, low, high)))
    return list(pairwise([*cuts, len(words)]))


def split_without_reference(
    words: int, durations: Sequence[float], word_times: Sequence[float] | None = None
) -> list[Range]:
    """Cut `words` words of a window among utterances of these durations (seconds) that have no transcript.

    With `word_times` (seconds from the window's start, the middle of each word, `words` of them) by time; without,
    each utterance gets words in proportion to its duration. Ranges as in `split_hypothesis`.
    """
    if not durations:
        return []
    ends = list(accumulate(durations))
    if word_times is None:
        cuts = [round(words * end / ends[-1]) if ends[-1] > 0 else words for end in ends[:-1]]
    else:
        if len(word_times) != words:
            raise ValueError(f"{words} words but {len(word_times)} times")
        forward = np.maximum.accumulate(np.asarray(word_times, dtype=np.float64)) if words else np.empty(0)
        cuts = [int(np.searchsorted(forward, end, side="left")) for end in ends[:-1]]
    return list(pairwise([0, *cuts, words]))


def _units(words: Sequence[str], by_character: bool) -> tuple[list[str], list[int]]:
    """What is aligned, in simplified form, and the index of the word that each belongs to."""
    if not by_character:
        return [simple_word(word) for word in words], list(range(len(words)))
    pairs = [(unit, i) for i, word in enumerate(words) for unit in characters(simple_word(word)) or [""]]
    return [unit for unit, _ in pairs], [i for _, i in pairs]


def _word_cut(at: int, owners: list[int], words: int) -> int:
    """The cut between words next to the cut `at` between units (inside a word: before or after, the nearer)."""
    if at == len(owners):
        return words
    word = owners[at]
    if at == 0 or owners[at - 1] != word:
        return word
    first = owners.index(word)
    count = owners.count(word)
    return word if 2 * (at - first) < count else word + 1


def _best_cut(words: Sequence[str], low: int, high: int) -> int:
    """A cut from `low` to `high`: the words between match nothing. After the last end of a sentence, else `high`."""
    for cut in range(high, max(low, 1) - 1, -1):
        if words[cut - 1].rstrip().rstrip(_AFTER_SENTENCE).endswith(_SENTENCE_ENDS):
            return cut
    return high


def _crossings(reference: list[str], hypothesis: list[str], rows: Sequence[int]) -> list[Range]:
    """Where the cheapest alignment crosses each row: first and last hypothesis position at that reference position.

    Edit distance over a table of `[len(reference) + 1, len(hypothesis) + 1]`, one numpy row at a time. A row's
    insertions are a running minimum: `row[j] = min over k <= j of best[k] + cost of inserting k..j`.
    """
    inserted = np.concatenate([[0.0], np.cumsum(_costs(hypothesis))])
    deleted = _costs(reference)
    replaced = _replacing(reference, hypothesis)
    table = np.empty((len(reference) + 1, len(hypothesis) + 1))
    table[0] = inserted
    for i, cost in enumerate(deleted):
        best = table[i] + cost
        best[1:] = np.minimum(best[1:], table[i, :-1] + replaced[i])
        table[i + 1] = np.minimum.accumulate(best - inserted) + inserted
    return _crossed(table.tolist(), inserted.tolist(), replaced.tolist(), rows)


def _crossed(
    table: list[list[float]], inserted: list[float], replaced: list[list[float]], rows: Sequence[int]
) -> list[Range]:
    """The cheapest path through the table, backwards, and where it crosses `rows`."""
    earliest, latest = [0] * len(table), [0] * len(table)
    i, j = len(table) - 1, len(inserted) - 1
    latest[i] = j
    while i or j:
        # Backwards, and a step back over an inserted word first: so the first of several equal stretches is matched
        # and the others follow it, as they do when the teacher loops.
        if j and _same(table[i][j], table[i][j - 1] + inserted[j] - inserted[j - 1]):
            j -= 1
            continue
        earliest[i] = j
        if i and j and _same(table[i][j], table[i - 1][j - 1] + replaced[i - 1][j - 1]):
            j -= 1
        i -= 1
        latest[i] = j
    return [(earliest[row], latest[row]) for row in rows]


def _same(a: float, b: float) -> bool:
    return abs(a - b) < 1e-6


def _costs(words: list[str]) -> Costs:
    return np.array([1.0 if word else _EMPTY_WORD for word in words], dtype=np.float64)


def _replacing(reference: list[str], hypothesis: list[str]) -> Costs:
    """Cost of each replacement `[reference, hypothesis]`: 0 for equal words, 1 for words without likeness."""
    if not reference or not hypothesis:
        return np.zeros((len(reference), len(hypothesis)))
    distances: Costs = cdist(reference, hypothesis, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    return distances
