"""What one model heard on one set, turned into the figures of a `Cell`.

Everything is derived from texts: decoding is the expensive part and is kept; scoring is done again whenever a report
is made, so that a better figure needs no decoding.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap

from whisperstill.errors import CorpusError
from whisperstill.evaluate.hallucination import hallucination
from whisperstill.evaluate.intervals import bootstrap, drawn, paired_bootstrap
from whisperstill.evaluate.score import score, utterance_edits
from whisperstill.records import Utterance
from whisperstill.records.edits import NO_EDITS, EditCounts
from whisperstill.records.findings import Cell, Hallucination, Paired, Slice
from whisperstill.text.edits import Pair, align, count_edits
from whisperstill.text.normalise import characters, normaliser

DURATIONS = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Ends of the ranges of duration that are scored apart, seconds."""
FEWEST_FOR_A_SLICE = 2


@dataclass(frozen=True, slots=True)
class Scoring:
    """How texts are made comparable, and how sure the result is."""

    normaliser: str
    unit: str
    seed: int = 0
    resamples: int = 1000

    def split(self, text: str) -> list[str]:
        """A text's units after normalisation."""
        clean = normaliser(self.normaliser)(text)
        return characters(clean) if self.unit == "character" else clean.split()


@dataclass(frozen=True)
class Heard:
    """Utterances with what a model heard in them, in corpus order."""

    utterances: tuple[Utterance, ...]
    texts: tuple[str, ...]
    seconds: float
    """Time it took."""
    scoring: Scoring

    @cached_property
    def references(self) -> list[list[str]]:
        """Words (or characters) after normalisation."""
        return [self.scoring.split(one.text or "") for one in self.utterances]

    @cached_property
    def words(self) -> list[list[str]]:
        """The same of what was heard."""
        return [self.scoring.split(text) for text in self.texts]

    @cached_property
    def alignments(self) -> list[list[Pair]]:
        """Which word of the reference became which."""
        return [align(mine, theirs) for mine, theirs in zip(self.references, self.words, strict=True)]

    @cached_property
    def edits(self) -> list[EditCounts]:
        """Counts of each utterance."""
        return [count_edits(mine, theirs) for mine, theirs in zip(self.references, self.words, strict=True)]

    @cached_property
    def drawn(self) -> list[list[EditCounts]]:
        """Of each utterance what a bootstrap draws."""
        return list(starmap(drawn, zip(self.edits, self.references, self.words, strict=True)))

    @property
    def samples(self) -> list[EditCounts]:
        """All that a bootstrap draws from."""
        return [one for parts in self.drawn for one in parts]

    def only(self, ids: Mapping[str, object]) -> "Heard":
        """The utterances with these ids."""
        kept = [(u, text) for u, text in zip(self.utterances, self.texts, strict=True) if u.id in ids]
        return Heard(tuple(u for u, _ in kept), tuple(text for _, text in kept), self.seconds, self.scoring)


def measured(
    heard: Heard,
    *,
    measurement: str,
    model: str,
    set: str,
    decoding: str,
    condition: str = "",
    chunk_length: float = 0.0,
    teacher: Heard | None = None,
) -> Cell:
    """The figures of a cell; with the `teacher`'s, what is between the two.

    A set without any reference word (nobody speaks in it) has error rates of 0 and its insertions in `hallucination`.
    """
    scoring = heard.scoring
    rates = dict.fromkeys(("wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high"), 0.0)
    total = sum(heard.edits, NO_EDITS)
    orthographic = 0.0
    references = [one.text or "" for one in heard.utterances]
    if total.reference:
        scored = score(
            references,
            heard.texts,
            normaliser=scoring.normaliser,
            unit=scoring.unit,
            seed=scoring.seed,
            resamples=scoring.resamples,
        )
        rates = {name: getattr(scored, name) for name in rates}
        if len(heard.samples) > len(heard.edits):
            interval = bootstrap(heard.samples, seed=scoring.seed, resamples=scoring.resamples)
            rates |= {"wer_low": 100 * interval.low, "wer_high": 100 * interval.high}
        as_written = sum(utterance_edits(references, heard.texts, normaliser="none", unit=scoring.unit), NO_EDITS)
        orthographic = 100 * as_written.rate
    paired, agreement = between(heard, teacher) if teacher is not None else (None, None)
    return Cell(
        measurement=measurement,
        model=model,
        set=set,
        decoding=decoding,
        **rates,
        wer_orthographic=orthographic,
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        words=total.reference,
        utterances=len(heard.utterances),
        hours=sum(one.audio.duration for one in heard.utterances) / 3600,
        seconds=heard.seconds,
        hallucination=made_up(heard),
        condition=condition,
        chunk_length=chunk_length,
        against_teacher=paired,
        agreement=agreement,
        by_speaker=slices(heard, lambda one: one.speaker),
        by_duration=slices(heard, duration_range),
        utterance_errors=tuple(one.errors for one in heard.samples),
        utterance_words=tuple(one.reference for one in heard.samples),
    )


def made_up(heard: Heard) -> Hallucination:
    """See `evaluate.hallucination`."""
    return hallucination(heard.references, heard.words, heard.alignments)


def between(heard: Heard, teacher: Heard) -> tuple[Paired | None, float | None]:
    """Difference to the teacher with its interval, and the share of equal texts, on what both could hear."""
    mine, theirs = {one.id: None for one in heard.utterances}, {one.id: None for one in teacher.utterances}
    a, b = heard.only(theirs), teacher.only(mine)
    if not a.utterances:
        return None, None
    agreement = 100 * sum(map(list.__eq__, a.words, b.words)) / len(a.words)
    if not sum(a.edits, NO_EDITS).reference:
        return None, agreement
    found = paired_bootstrap(a.samples, b.samples, seed=heard.scoring.seed, resamples=heard.scoring.resamples)
    return Paired(100 * found.difference, 100 * found.low, 100 * found.high, found.p), agreement


def slices(heard: Heard, name_of: Callable[[Utterance], str | None]) -> tuple[Slice, ...]:
    """Error rates of the parts that `name_of` puts utterances in, where there is more than one part."""
    parts: dict[str, list[EditCounts]] = {}
    counted: Counter[str] = Counter()
    for one, those in zip(heard.utterances, heard.drawn, strict=True):
        name = name_of(one)
        if name is not None:
            parts.setdefault(name, []).extend(those)
            counted[name] += 1
    if len(parts) < FEWEST_FOR_A_SLICE:
        return ()
    found = []
    for name, edits in sorted(parts.items(), key=lambda part: natural(part[0])):
        total = sum(edits, NO_EDITS)
        if not total.reference:
            continue
        interval = bootstrap(edits, seed=heard.scoring.seed, resamples=heard.scoring.resamples)
        found.append(
            Slice(name, counted[name], total.reference, 100 * total.rate, 100 * interval.low, 100 * interval.high)
        )
    return tuple(found)


def duration_range(utterance: Utterance) -> str:
    """`5-10 s`; above the last range `over 30 s`."""
    before = 0.0
    for end in DURATIONS:
        if utterance.audio.duration <= end:
            return f"{before:g}-{end:g} s"
        before = end
    return f"over {before:g} s"


def natural(name: str) -> tuple[int, float, str]:
    """Ranges by their number, names by their letters."""
    number = re.match(r"(over )?(\d+(\.\d+)?)", name)
    return (0, float(number[2]) + bool(number[1]), name) if number else (1, 0.0, name)


def ordered(utterances: Sequence[Utterance], texts: Mapping[str, str], seconds: float, scoring: Scoring) -> Heard:
    """What was heard, in corpus order, without what could not be. Raises `CorpusError` when that is everything."""
    kept = tuple(one for one in utterances if one.id in texts)
    if not kept:
        raise CorpusError(f"expected at least one utterance that can be read, found none of {len(utterances)}")
    return Heard(kept, tuple(texts[one.id] for one in kept), seconds, scoring)
