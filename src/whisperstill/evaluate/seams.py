"""Words doubled and lost where chunks were joined.

The whole hypothesis is aligned with a reference by edit distance; every insertion and deletion has a time, and those
within a radius of a seam are counted. A network errs everywhere, so the same is counted around the middles between
the seams, where nothing was joined: what seams have more than those is the merge's.

Much of what is missing near a seam no chunk has heard at all (without timestamps small networks skip whole sentences).
So words that a chunk heard rightly and that the merge threw away are counted apart: they are the merge's own doing.

Definitions. An insertion is `duplicated` when its run of inserted words, slid over equal words as far as it goes,
stands beside the same words again (half of them at least); any deletion is `deleted`. The time of an insertion is its
word's, that of a deletion lies between its neighbours in the hypothesis, or is the reference's own where that has
times. With chunks of c seconds that begin every 2c/3, a radius of c/6 is the overlap, and the stretches around the
middles between seams are what only one chunk heard: the two kinds share the recording without rest.
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
"""A normalised word and the second of its middle."""


@dataclass(frozen=True, slots=True)
class MergeErrors:
    """Words near seams that the reference does not have, or that it alone has. Counts add."""

    merge_points: int = 0
    duplicated: int = 0
    """Inserted words that repeat their neighbours."""
    inserted: int = 0
    """All inserted words, doubled ones among them."""
    deleted: int = 0
    deleted_by_merge: int = 0
    """Lost words that some chunk had heard; 0 where nobody looked (`find_recognized_words`)."""

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
        """Doubled words, and lost ones that some chunk had heard, per 100 seams."""
        return 100 * (self.duplicated + self.deleted_by_merge) / self.merge_points if self.merge_points else 0.0

    @property
    def error_rate(self) -> float:
        """Doubled and lost words per 100 seams; 0 without seams."""
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
    """Of a lost word in the reference, of another in the normalised hypothesis."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A transcript's normalised words, each with begin and end of its utterance in seconds."""

    words: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]

    @classmethod
    def from_utterances(cls, utterances: Iterable[tuple[str, float, float]], language: str) -> "Reference":
        """From utterances in order, as (text, begin, end)."""
        words, spans = [], []
        for text, begin, end in utterances:
            normalized = _normalize_words(text, language)
            words += normalized
            spans += [(begin, end)] * len(normalized)
        return cls(tuple(words), tuple(spans))


def timed_words(words: Sequence[Word], language: str) -> list[TimedWord]:
    """The words after the language's normalizer, each with the time of the word it came from.

    Normalisers see whole sentences (numbers, contractions), so their words are aligned with the words as they were;
    one that has no partner is put between its neighbours.
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
    """Inserted and deleted words of a hypothesis against a reference, which may have times, in order of words."""
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
    """What lies within `radius` seconds of a seam; a word near two seams counts once.

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
    """The middles between seams: the background, where nothing was joined."""
    return [(before + after) / 2 for before, after in pairwise(sorted(merge_points))]


def locate_errors_in_recording(words: Sequence[Word], reference: Reference, language: str) -> list[LocatedError]:
    """Errors of a whole recording against its transcript, for `count_errors_near`."""
    return locate_errors(timed_words(words, language), reference.words)


def find_recognized_words(
    chunks: Iterable[tuple[float, float, Sequence[Word]]], reference: Reference, language: str
) -> set[int]:
    """The places of the reference's words that some chunk (begin, end, its words) heard rightly.

    A chunk is aligned with the utterances that it overlaps. Only hits beside hits count: of words that are missing,
    one or the other always matches something.
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
    """Doubled and lost words against windows, each decoded anew with its seam (in seconds) in its middle.

    Nothing is cut near the middle of such a window: it is a reference without seams and without a human, and what the
    network mishears everywhere is no error in it. Words up to 2 s beyond the radius are aligned and not counted.
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
    """Doubled and lost words per 100 seams beyond those of as many places without a seam.

    Raises `SettingsError` where there is nothing to compare with.
    """
    if not background.merge_points:
        raise SettingsError("expected places without seams to compare with, got none: take a recording of two seams")
    return at_merge_points.error_rate - background.error_rate


def _normalize_words(text: str, language: str) -> list[str]:
    normalized = get_normalizer(normalizer_name_for(language))(text)
    return split_into_characters(normalized) if language_code(language) in UNSPACED_LANGUAGES else normalized.split()


def _interpolate_times(times: Sequence[float | None]) -> list[float]:
    """Times where there are none: evenly between those on either side, the nearest one's at the ends."""
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
    """A time for each pair; deleted words lie evenly between the hypothesis's words around them."""
    return _interpolate_times(
        [None if hypothesis_index is None else hypothesis[hypothesis_index][1] for _, hypothesis_index in pairs]
    )


def _find_duplicated(pairs: Sequence[AlignedPair], words: Sequence[str]) -> set[int]:
    """The inserted words that repeat words beside them.

    Which of two equal stretches an alignment calls inserted is its own affair, and it may call inserted a part of
    each (`a b [c b] c d`); so all places are tried at which a stretch of the run's length, followed by another, covers
    the run.
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
