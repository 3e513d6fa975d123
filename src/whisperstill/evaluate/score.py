"""The error rate of a set of hypotheses against their references.

Corpus level: all edits over all reference words. An utterance whose reference normalises to nothing has no rate of
its own: it adds nothing to the denominator, and what was heard in it counts as insertions, exactly as jiwer counts a
list of sentences. How many there were is in `Score.empty_references`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

from whisperstill.errors import CorpusError, SettingsError
from whisperstill.evaluate.intervals import bootstrap, drawn
from whisperstill.records.edits import NO_EDITS, EditCounts
from whisperstill.text.edits import count_character_edits, count_edits
from whisperstill.text.normalise import UNITS, characters
from whisperstill.text.normalise import normaliser as normaliser_named


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates of a set of utterances, in per cent, with the ends of their 95 % bootstrap intervals."""

    edits: EditCounts
    """Word edits (character edits without spaces where `unit` is `character`)."""
    characters: EditCounts
    """Character edits, spaces counted."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    utterances: int
    words: int
    """Words of the references after normalisation (or characters, as `unit` says)."""
    empty_references: int
    """Utterances whose reference normalises to nothing."""
    normaliser: str
    unit: str
    """`word`, or `character` for languages without spaces: there `wer` counts characters, as the Whisper authors do."""


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normaliser: str,
    unit: str = "word",
    seed: int = 0,
    resamples: int = 1000,
) -> Score:
    """Score hypotheses against references in their original form; both go through the normaliser called so.

    Raises `SettingsError` for a normaliser or unit that does not exist, `CorpusError` when no reference has a word
    left after normalisation, and `ValueError` when the two are not of the same length.
    """
    if unit not in UNITS:
        raise SettingsError(f"expected unit 'word' or 'character', got {unit!r}")
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    pairs = _split(references, hypotheses, normaliser, unit)
    edits = list(starmap(count_edits, pairs))
    total = sum(edits, NO_EDITS)
    if not total.reference:
        raise CorpusError(
            f"expected references with words to score against, got {len(references)} utterances and no word after the "
            f"{normaliser!r} normaliser; evaluate on a manifest with transcripts"
        )
    clean = normaliser_named(normaliser)
    spelled = list(starmap(count_character_edits, zip(map(clean, references), map(clean, hypotheses), strict=True)))
    spelled_total = sum(spelled, NO_EDITS)
    parts = [part for counts, pair in zip(edits, pairs, strict=True) for part in drawn(counts, *pair)]
    words_interval = bootstrap(parts, seed=seed, resamples=resamples)
    characters_interval = bootstrap(spelled, seed=seed, resamples=resamples)
    return Score(
        edits=total,
        characters=spelled_total,
        wer=100 * total.rate,
        wer_low=100 * words_interval.low,
        wer_high=100 * words_interval.high,
        cer=100 * spelled_total.rate,
        cer_low=100 * characters_interval.low,
        cer_high=100 * characters_interval.high,
        utterances=len(references),
        words=total.reference,
        empty_references=sum(not counts.reference for counts in edits),
        normaliser=normaliser,
        unit=unit,
    )


def utterance_edits(
    references: Sequence[str], hypotheses: Sequence[str], *, normaliser: str, unit: str = "word"
) -> list[EditCounts]:
    """Edits of each utterance after normalisation, in order: what `score` adds up and `paired_bootstrap` compares."""
    return list(starmap(count_edits, _split(references, hypotheses, normaliser, unit)))


def _split(
    references: Sequence[str], hypotheses: Sequence[str], normaliser: str, unit: str
) -> list[tuple[list[str], list[str]]]:
    """The units of each reference and of what was heard for it."""
    clean = normaliser_named(normaliser)
    split = characters if unit == "character" else str.split
    return [(split(clean(mine)), split(clean(theirs))) for mine, theirs in zip(references, hypotheses, strict=True)]
