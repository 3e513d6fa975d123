"""Words doubled and lost where chunks were joined.

The whole hypothesis is aligned with a reference by edit distance; every insertion and deletion has a time, and those
within a radius of a seam are counted. A network errs everywhere, so the same is counted around the middles between
the seams, where nothing was joined: what seams have more than those is the merge's.

Much of what is missing near a seam no chunk has heard at all (without timestamps small networks skip whole sentences).
So words that a chunk heard rightly and that the merge threw away are counted apart: they are the merge's own doing.

Definitions. An insertion is `doubled` when its run of inserted words, slid over equal words as far as it goes, stands
beside the same words again (half of them at least); any deletion is `lost`. The time of an insertion is its word's,
that of a deletion lies between its neighbours in the hypothesis, or is the reference's own where that has times.
With chunks of c seconds that begin every 2c/3, a radius of c/6 is the overlap, and the stretches around the middles
between seams are what only one chunk heard: the two kinds share the recording without rest.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from whisperstill.decode.transcript import Word
from whisperstill.errors import SettingsError
from whisperstill.text.edits import Pair, align
from whisperstill.text.languages import UNSPACED, language_code
from whisperstill.text.normalise import characters, normaliser, normaliser_for, simple_word

Timed: TypeAlias = tuple[str, float]
"""A normalised word and the second of its middle."""


@dataclass(frozen=True, slots=True)
class SeamErrors:
    """Words near seams that the reference does not have, or that it alone has. Counts add."""

    seams: int = 0
    doubled: int = 0
    """Inserted words that repeat their neighbours."""
    inserted: int = 0
    """All inserted words, doubled ones among them."""
    lost: int = 0
    avoidable: int = 0
    """Lost words that some chunk had heard; 0 where nobody looked (`heard_by`)."""

    def __add__(self, other: "SeamErrors") -> "SeamErrors":
        return SeamErrors(
            self.seams + other.seams,
            self.doubled + other.doubled,
            self.inserted + other.inserted,
            self.lost + other.lost,
            self.avoidable + other.avoidable,
        )

    @property
    def merge_rate(self) -> float:
        """Doubled words, and lost ones that some chunk had heard, per 100 seams."""
        return 100 * (self.doubled + self.avoidable) / self.seams if self.seams else 0.0

    @property
    def rate(self) -> float:
        """Doubled and lost words per 100 seams; 0 without seams."""
        return 100 * (self.doubled + self.lost) / self.seams if self.seams else 0.0


@dataclass(frozen=True, slots=True)
class Located:
    """An inserted or deleted word."""

    word: str
    time: float
    """Seconds of the recording."""
    kind: str
    """`doubled`, `inserted` or `lost`."""
    place: int
    """Of a lost word in the reference, of another in the normalised hypothesis."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A transcript's normalised words, each with begin and end of its utterance in seconds."""

    words: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, utterances: Iterable[tuple[str, float, float]], language: str) -> "Reference":
        """From utterances in order, as (text, begin, end)."""
        words, spans = [], []
        for text, begin, end in utterances:
            clean = _normalised(text, language)
            words += clean
            spans += [(begin, end)] * len(clean)
        return cls(tuple(words), tuple(spans))


def timed_words(words: Sequence[Word], language: str) -> list[Timed]:
    """The words after the language's normaliser, each with the time of the word it came from.

    Normalisers see whole sentences (numbers, contractions), so their words are aligned with the words as they were;
    one that has no partner is put between its neighbours.
    """
    texts = [(simple_word(word.word), (word.start + word.end) / 2) for word in words if simple_word(word.word)]
    clean = _normalised("".join(word.word if word.word[:1].isspace() else f" {word.word}" for word in words), language)
    if language_code(language) in UNSPACED:
        texts = [(unit, time) for text, time in texts for unit in characters(text)]
    times: list[float | None] = [None] * len(clean)
    for mine, theirs in align([text for text, _ in texts], clean):
        if mine is not None and theirs is not None:
            times[theirs] = texts[mine][1]
    return list(zip(clean, _filled(times), strict=True))


def locate(hypothesis: Sequence[Timed], reference: Sequence[str] | Sequence[Timed]) -> list[Located]:
    """Inserted and deleted words of a hypothesis against a reference, which may have times, in order of words."""
    expected = [word if isinstance(word, str) else word[0] for word in reference]
    own = [None if isinstance(word, str) else word[1] for word in reference]
    heard = [word for word, _ in hypothesis]
    pairs = align(expected, heard)
    doubled = _doubled(pairs, heard)
    between = _between(pairs, hypothesis)
    found = []
    for place, (mine, theirs) in enumerate(pairs):
        if mine is None and theirs is not None:
            kind = "doubled" if theirs in doubled else "inserted"
            found.append(Located(heard[theirs], hypothesis[theirs][1], kind, theirs))
        elif theirs is None and mine is not None:
            given = own[mine]
            found.append(Located(expected[mine], between[place] if given is None else given, "lost", mine))
    return found


def count_near(
    found: Iterable[Located], seams: Sequence[float], radius: float, heard: Set[int] = frozenset()
) -> SeamErrors:
    """What lies within `radius` seconds of a seam; a word near two seams counts once. `heard` as from `heard_by`."""
    near = [one for one in found if any(abs(one.time - seam) <= radius for seam in seams)]
    lost = [one.place for one in near if one.kind == "lost"]
    doubled = sum(one.kind == "doubled" for one in near)
    return SeamErrors(len(seams), doubled, len(near) - len(lost), len(lost), sum(place in heard for place in lost))


def between_seams(seams: Sequence[float]) -> list[float]:
    """The middles between seams: the background, where nothing was joined."""
    return [(before + after) / 2 for before, after in pairwise(sorted(seams))]


def against_reference(words: Sequence[Word], reference: Reference, language: str) -> list[Located]:
    """Errors of a whole recording against its transcript, for `count_near`."""
    return locate(timed_words(words, language), reference.words)


def heard_by(chunks: Iterable[tuple[float, float, Sequence[Word]]], reference: Reference, language: str) -> set[int]:
    """The places of the reference's words that some chunk (begin, end, its words) heard rightly.

    A chunk is aligned with the utterances that it overlaps. Only hits beside hits count: of words that are missing,
    one or the other always matches something.
    """
    places: set[int] = set()
    for begin, end, words in chunks:
        inside = [k for k, (start, stop) in enumerate(reference.spans) if stop > begin and start < end]
        expected, said = [reference.words[k] for k in inside], [word for word, _ in timed_words(words, language)]
        hits = [
            (mine, theirs)
            for mine, theirs in align(expected, said)
            if mine is not None and theirs is not None and expected[mine] == said[theirs]
        ]
        for before, after in pairwise(hits):
            if (after[0] - before[0], after[1] - before[1]) == (1, 1):
                places |= {inside[before[0]], inside[after[0]]}
    return places


def against_windows(
    words: Sequence[Word], windows: Sequence[tuple[float, Sequence[Word]]], radius: float, language: str
) -> SeamErrors:
    """Doubled and lost words against windows, each decoded anew with its seam (in seconds) in its middle.

    Nothing is cut near the middle of such a window: it is a reference without seams and without a human, and what the
    network mishears everywhere is no error in it. Words up to 2 s beyond the radius are aligned and not counted.
    """
    total = SeamErrors()
    for seam, centred in windows:
        mine, theirs = (
            timed_words([word for word in side if abs((word.start + word.end) / 2 - seam) <= radius + 2.0], language)
            for side in (words, centred)
        )
        total += count_near(locate(mine, theirs), [seam], radius)
    return total


def excess(seams: SeamErrors, background: SeamErrors) -> float:
    """Doubled and lost words per 100 seams beyond those of as many places without a seam.

    Raises `SettingsError` where there is nothing to compare with.
    """
    if not background.seams:
        raise SettingsError("expected places without seams to compare with, got none: take a recording of two seams")
    return seams.rate - background.rate


def _normalised(text: str, language: str) -> list[str]:
    clean = normaliser(normaliser_for(language))(text)
    return characters(clean) if language_code(language) in UNSPACED else clean.split()


def _filled(times: Sequence[float | None]) -> list[float]:
    """Times where there are none: evenly between those on either side, the nearest one's at the ends."""
    known = [(place, time) for place, time in enumerate(times) if time is not None]
    if not known:
        return [0.0] * len(times)
    known = [(-1, known[0][1]), *known, (len(times), known[-1][1])]
    filled: list[float] = []
    for (low, since), (high, until) in pairwise(known):
        filled += [since + (until - since) * (place - low) / (high - low) for place in range(low + 1, high + 1)]
    return filled[: len(times)]


def _between(pairs: Sequence[Pair], hypothesis: Sequence[Timed]) -> list[float]:
    """A time for each pair; deleted words lie evenly between the hypothesis's words around them."""
    return _filled([None if theirs is None else hypothesis[theirs][1] for _, theirs in pairs])


def _doubled(pairs: Sequence[Pair], heard: Sequence[str]) -> set[int]:
    """The inserted words that repeat words beside them.

    Which of two equal stretches an alignment calls inserted is its own affair, and it may call inserted a part of
    each (`a b [c b] c d`); so all places are tried at which a stretch of the run's length, followed by another, covers
    the run.
    """
    inserted = [theirs for mine, theirs in pairs if mine is None and theirs is not None]
    doubled: set[int] = set()
    for run in _runs(inserted):
        size = len(run)
        most = 0
        for start in range(max(0, run[0] - size), min(run[0], len(heard) - 2 * size) + 1):
            most = max(most, sum(heard[start + k] == heard[start + size + k] for k in range(size)))
        if 2 * most >= size and most:
            doubled.update(run)
    return doubled


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
