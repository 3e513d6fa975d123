"""Word and character error rates of hypotheses against references, over a whole corpus.

All edits over all reference words. An utterance whose reference is empty after normalization adds nothing to the
denominator, and its hypothesis counts as insertions, as in jiwer for a list of sentences;
`Score.empty_references` counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

from whisperstill.errors import CorpusError, SettingsError
from whisperstill.evaluate.intervals import bootstrap, bootstrap_blocks
from whisperstill.records.edit_counts import NO_EDITS, EditCounts
from whisperstill.text.edit_distance import count_character_edits, count_edits
from whisperstill.text.normalizers import ERROR_RATE_UNITS, get_normalizer, split_into_characters


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates in per cent, with 95 % bootstrap intervals."""

    edits: EditCounts
    """Word edits (character edits without spaces where `unit` is `character`)."""
    character_edits: EditCounts
    """Character edits, spaces counted."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    utterances: int
    words: int
    """Reference words after normalization (characters if `unit` is `character`)."""
    empty_references: int
    """Utterances whose reference is empty after normalization."""
    normalizer: str
    unit: str
    """`word`, or `character` for languages without spaces, where `wer` counts characters, as in openai/whisper."""


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalizer: str,
    unit: str = "word",
    seed: int = 0,
    resamples: int = 1000,
) -> Score:
    """Error rates of hypotheses after normalization of both sides.

    Raises `SettingsError` for an unknown normalizer or unit, `CorpusError` if no reference has a word left after
    normalization, `ValueError` for different numbers of references and hypotheses.
    """
    if unit not in ERROR_RATE_UNITS:
        raise SettingsError(f"expected unit 'word' or 'character', got {unit!r}")
    if len(references) != len(hypotheses):
        raise ValueError(f"expected a hypothesis per reference, got {len(references)} and {len(hypotheses)}")
    pairs = _normalize_and_split(references, hypotheses, normalizer, unit)
    edits = list(starmap(count_edits, pairs))
    total_edits = sum(edits, NO_EDITS)
    if not total_edits.reference_length:
        raise CorpusError(
            f"expected references with words to score against, got {len(references)} utterances without a word "
            f"after the {normalizer!r} normalizer; evaluate on a dataset with transcripts"
        )
    normalize = get_normalizer(normalizer)
    character_edits = list(
        starmap(count_character_edits, zip(map(normalize, references), map(normalize, hypotheses), strict=True))
    )
    total_character_edits = sum(character_edits, NO_EDITS)
    blocks = [block for counts, pair in zip(edits, pairs, strict=True) for block in bootstrap_blocks(counts, *pair)]
    wer_interval = bootstrap(blocks, seed=seed, resamples=resamples)
    cer_interval = bootstrap(character_edits, seed=seed, resamples=resamples)
    return Score(
        edits=total_edits,
        character_edits=total_character_edits,
        wer=100 * total_edits.error_rate,
        wer_low=100 * wer_interval.low,
        wer_high=100 * wer_interval.high,
        cer=100 * total_character_edits.error_rate,
        cer_low=100 * cer_interval.low,
        cer_high=100 * cer_interval.high,
        utterances=len(references),
        words=total_edits.reference_length,
        empty_references=sum(not counts.reference_length for counts in edits),
        normalizer=normalizer,
        unit=unit,
    )


def utterance_edits(
    references: Sequence[str], hypotheses: Sequence[str], *, normalizer: str, unit: str = "word"
) -> list[EditCounts]:
    """Edit counts of each utterance after normalization."""
    return list(starmap(count_edits, _normalize_and_split(references, hypotheses, normalizer, unit)))


def _normalize_and_split(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str, unit: str
) -> list[tuple[list[str], list[str]]]:
    """Words (or characters) of each reference and its hypothesis."""
    normalize = get_normalizer(normalizer)
    split = split_into_characters if unit == "character" else str.split
    return [
        (split(normalize(reference)), split(normalize(hypothesis)))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
