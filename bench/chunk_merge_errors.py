"""Words duplicated and lost at the merge points of overlapping chunks.

The whole hypothesis is aligned with a reference by edit distance; every insertion and deletion has a time, and those
within a radius of a merge point are counted. A network makes errors everywhere, so errors around the midpoints between
merge points are counted as well: the excess at merge points is caused by the merge.

Much of what is missing near a merge point was in no chunk at all (without timestamps small networks skip sentences).
Words that a chunk recognized and the merge discarded are therefore counted separately.

Definitions. An insertion is `duplicated` if its run of inserted words, slid over equal words as far as possible, stands
next to the same words (at least half of them); any deletion is `deleted`. The time of an insertion is that of its word;
a deletion lies between its neighbours in the hypothesis, or has the reference's time where that is known. With chunks
of c seconds that start every 2c/3, a radius of c/6 is the overlap, and the regions around the midpoints belong to one
chunk only: both kinds together cover the recording.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from whisperstill.decode.output.transcript import Word
from whisperstill.errors import SettingsError
from whisperstill.text.edit_distance import AlignedPair, align
from whisperstill.text.languages import UNSPACED_LANGUAGES, language_code
from whisperstill.text.normalizers import get_normalizer, normalize_word, normalizer_name_for, split_into_characters

TimedWord: TypeAlias = tuple[str, float]
"""A normalized word and the time of its midpoint, seconds."""


@dataclass(frozen=True, slots=True)
class MergeErrors:
    """Insertions and deletions near merge points. Counts add up."""

    merge_points: int = 0
    duplicated: int = 0
    """Inserted words that repeat adjacent words."""
    inserted: int = 0
    """All inserted words, duplicated ones included."""
    deleted: int = 0
    deleted_by_merge: int = 0
    """Deleted words that a chunk had recognized (`find_recognized_words`); 0 if not computed."""

    def __add__(self, other: "MergeErrors") -> "MergeErrors":
        return MergeErrors(
            self.merge_points + other.merge_points,
            self.duplicated + other.duplicated,
            self.inserted + other.inserted,
            self.deleted + other.deleted,
            self.deleted_by_merge + other.deleted_by_merge,
        )

    @property
    def merge_error_rate(self) -> float:
        """Duplicated words, and deleted ones that a chunk had recognized, per 100 merge points."""
        return 100 * (self.duplicated + self.deleted_by_merge) / self.merge_points if self.merge_points else 0.0

    @property
    def error_rate(self) -> float:
        """Duplicated and deleted words per 100 merge points; 0 without merge points."""
        return 100 * (self.duplicated + self.deleted) / self.merge_points if self.merge_points else 0.0


@dataclass(frozen=True, slots=True)
class LocatedError:
    """An inserted or deleted word."""

    word: str
    time: float
    """Seconds of the recording."""
    kind: str
    """`duplicated`, `inserted` or `deleted`."""
    word_index: int
    """Index in the reference for a deletion, in the normalized hypothesis otherwise."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Normalized words of a transcript, each with start and end of its utterance in seconds."""

    words: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]

    @classmethod
    def from_utterances(cls, utterances: Iterable[tuple[str, float, float]], language: str) -> "Reference":
        """From utterances in order, as (text, start, end)."""
        words, spans = [], []
        for text, begin, end in utterances:
            normalized = _normalize_words(text, language)
            words += normalized
            spans += [(begin, end)] * len(normalized)
        return cls(tuple(words), tuple(spans))


def timed_words(words: Sequence[Word], language: str) -> list[TimedWord]:
    """Words after the language's normalizer, each with the time of the word that it came from.

    Normalizers work on sentences (numbers, contractions), so normalized words are aligned with the original ones; times
    of unaligned words are interpolated.
    """
    source_words = [
        (normalize_word(word.word), (word.start + word.end) / 2) for word in words if normalize_word(word.word)
    ]
    normalized = _normalize_words(
        "".join(word.word if word.word[:1].isspace() else f" {word.word}" for word in words), language
    )
    if language_code(language) in UNSPACED_LANGUAGES:
        source_words = [(unit, time) for text, time in source_words for unit in split_into_characters(text)]
    times: list[float | None] = [None] * len(normalized)
    for source_index, normalized_index in align([text for text, _ in source_words], normalized):
        if source_index is not None and normalized_index is not None:
            times[normalized_index] = source_words[source_index][1]
    return list(zip(normalized, _interpolate_times(times), strict=True))


def locate_errors(
    hypothesis: Sequence[TimedWord], reference: Sequence[str] | Sequence[TimedWord]
) -> list[LocatedError]:
    """Inserted and deleted words of a hypothesis against a reference (with or without times), in order."""
    reference_words = [word if isinstance(word, str) else word[0] for word in reference]
    reference_times = [None if isinstance(word, str) else word[1] for word in reference]
    hypothesis_words = [word for word, _ in hypothesis]
    pairs = align(reference_words, hypothesis_words)
    duplicated = _find_duplicated(pairs, hypothesis_words)
    pair_times = _pair_times(pairs, hypothesis)
    errors = []
    for pair_index, (reference_index, hypothesis_index) in enumerate(pairs):
        if reference_index is None and hypothesis_index is not None:
            kind = "duplicated" if hypothesis_index in duplicated else "inserted"
            errors.append(
                LocatedError(
                    hypothesis_words[hypothesis_index], hypothesis[hypothesis_index][1], kind, hypothesis_index
                )
            )
        elif hypothesis_index is None and reference_index is not None:
            reference_time = reference_times[reference_index]
            errors.append(
                LocatedError(
                    reference_words[reference_index],
                    pair_times[pair_index] if reference_time is None else reference_time,
                    "deleted",
                    reference_index,
                )
            )
    return errors


def count_errors_near(
    errors: Iterable[LocatedError], merge_points: Sequence[float], radius: float, recognized: Set[int] = frozenset()
) -> MergeErrors:
    """Errors within `radius` seconds of a merge point; a word near two merge points counts once.

    `recognized` as from `find_recognized_words`.
    """
    near = [error for error in errors if any(abs(error.time - merge_point) <= radius for merge_point in merge_points)]
    deleted = [error.word_index for error in near if error.kind == "deleted"]
    duplicated = sum(error.kind == "duplicated" for error in near)
    return MergeErrors(
        len(merge_points),
        duplicated,
        len(near) - len(deleted),
        len(deleted),
        sum(index in recognized for index in deleted),
    )


def midpoints_between(merge_points: Sequence[float]) -> list[float]:
    """Midpoints between merge points, where nothing was merged: the background."""
    return [(before + after) / 2 for before, after in pairwise(sorted(merge_points))]


def locate_errors_in_recording(words: Sequence[Word], reference: Reference, language: str) -> list[LocatedError]:
    """Errors of a recording against its transcript, for `count_errors_near`."""
    return locate_errors(timed_words(words, language), reference.words)


def find_recognized_words(
    chunks: Iterable[tuple[float, float, Sequence[Word]]], reference: Reference, language: str
) -> set[int]:
    """Indices of reference words that a chunk (start, end, words) recognized correctly.

    A chunk is aligned with the utterances that it overlaps. Only matches next to matches count: some missing words
    match something by chance.
    """
    recognized: set[int] = set()
    for begin, end, words in chunks:
        overlapping = [k for k, (start, stop) in enumerate(reference.spans) if stop > begin and start < end]
        reference_words, hypothesis_words = (
            [reference.words[k] for k in overlapping],
            [word for word, _ in timed_words(words, language)],
        )
        matches = [
            (reference_index, hypothesis_index)
            for reference_index, hypothesis_index in align(reference_words, hypothesis_words)
            if reference_index is not None
            and hypothesis_index is not None
            and reference_words[reference_index] == hypothesis_words[hypothesis_index]
        ]
        for before, after in pairwise(matches):
            if (after[0] - before[0], after[1] - before[1]) == (1, 1):
                recognized |= {overlapping[before[0]], overlapping[after[0]]}
    return recognized


def count_errors_against_windows(
    words: Sequence[Word], windows: Sequence[tuple[float, Sequence[Word]]], radius: float, language: str
) -> MergeErrors:
    """Errors against windows that are decoded with a merge point (in seconds) at their centre.

    Nothing is cut near the centre of such a window, so it is a reference without merge points, in which the network's
    usual errors are no errors. Words up to 2 s beyond the radius are aligned but not counted.
    """
    total = MergeErrors()
    for merge_point, window_words in windows:
        hypothesis, reference = (
            timed_words(
                [word for word in source if abs((word.start + word.end) / 2 - merge_point) <= radius + 2.0], language
            )
            for source in (words, window_words)
        )
        total += count_errors_near(locate_errors(hypothesis, reference), [merge_point], radius)
    return total


def excess_error_rate(at_merge_points: MergeErrors, background: MergeErrors) -> float:
    """Duplicated and deleted words per 100 merge points beyond those of the background.

    Raises `SettingsError` without a background.
    """
    if not background.merge_points:
        raise SettingsError("expected a background to compare with, got none: two merge points at least")
    return at_merge_points.error_rate - background.error_rate


def _normalize_words(text: str, language: str) -> list[str]:
    normalized = get_normalizer(normalizer_name_for(language))(text)
    return split_into_characters(normalized) if language_code(language) in UNSPACED_LANGUAGES else normalized.split()


def _interpolate_times(times: Sequence[float | None]) -> list[float]:
    """Missing times interpolated evenly between known ones, and constant at the ends."""
    known_times = [(index, time) for index, time in enumerate(times) if time is not None]
    if not known_times:
        return [0.0] * len(times)
    known_times = [(-1, known_times[0][1]), *known_times, (len(times), known_times[-1][1])]
    filled: list[float] = []
    for (low, low_time), (high, high_time) in pairwise(known_times):
        filled += [
            low_time + (high_time - low_time) * (index - low) / (high - low) for index in range(low + 1, high + 1)
        ]
    return filled[: len(times)]


def _pair_times(pairs: Sequence[AlignedPair], hypothesis: Sequence[TimedWord]) -> list[float]:
    """A time for each pair; deleted words are spaced evenly between their neighbours in the hypothesis."""
    return _interpolate_times(
        [None if hypothesis_index is None else hypothesis[hypothesis_index][1] for _, hypothesis_index in pairs]
    )


def _find_duplicated(pairs: Sequence[AlignedPair], words: Sequence[str]) -> set[int]:
    """Indices of inserted words that repeat adjacent words.

    Of two equal phrases an alignment may mark either as inserted, or a part of each (`a b [c b] c d`), so all positions
    are tried where two phrases of the run's length, one after the other, cover the run.
    """
    inserted_indices = [
        hypothesis_index
        for reference_index, hypothesis_index in pairs
        if reference_index is None and hypothesis_index is not None
    ]
    duplicated: set[int] = set()
    for run in _consecutive_runs(inserted_indices):
        size = len(run)
        max_matches = 0
        for start in range(max(0, run[0] - size), min(run[0], len(words) - 2 * size) + 1):
            max_matches = max(max_matches, sum(words[start + k] == words[start + size + k] for k in range(size)))
        if 2 * max_matches >= size and max_matches:
            duplicated.update(run)
    return duplicated


def _consecutive_runs(numbers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
