"""Word and character error rates of hypotheses against references, over a whole corpus.

All edits over all reference words. An utterance whose reference is empty after normalization adds nothing to the
denominator, and its hypothesis counts as insertions, as in jiwer for a list of sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

from whisperstill.evaluate.intervals import bootstrap, bootstrap_blocks
from whisperstill.records.edit_counts import NO_EDITS, EditCounts
from whisperstill.text.edit_distance import count_character_edits, count_edits
from whisperstill.text.normalizers import get_normalizer, split_into_characters


@dataclass(frozen=True, slots=True)
class Scoring:
    """Normalization and unit of error rates, and the bootstrap of their intervals."""

    normalizer: str
    unit: str = "word"
    """`word`, or `character` for languages without spaces, where the WER counts characters, as in openai/whisper."""
    seed: int = 0
    resamples: int = 1000

    def split(self, text: str) -> list[str]:
        """Words (or characters) of a text after normalization."""
        normalized = get_normalizer(self.normalizer)(text)
        return split_into_characters(normalized) if self.unit == "character" else normalized.split()


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates in per cent, with 95 % bootstrap intervals."""

    edits: EditCounts
    """Word edits (character edits without spaces where `unit` is `character`)."""
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float


def score(references: Sequence[str], hypotheses: Sequence[str], scoring: Scoring) -> Score:
    """Error rates after normalization of both sides.

    Raises `SettingsError` for an unknown normalizer, `ValueError` if no reference has a word left after normalization,
    or for different numbers of references and hypotheses.
    """
    seed, resamples, normalize = scoring.seed, scoring.resamples, get_normalizer(scoring.normalizer)
    words = [(scoring.split(ref), scoring.split(hyp)) for ref, hyp in zip(references, hypotheses, strict=True)]
    edits = list(starmap(count_edits, words))
    total = sum(edits, NO_EDITS)
    blocks = [block for counts, pair in zip(edits, words, strict=True) for block in bootstrap_blocks(counts, *pair)]
    wer_low, wer_high = bootstrap(blocks, seed=seed, resamples=resamples)
    character_edits = list(map(count_character_edits, map(normalize, references), map(normalize, hypotheses)))
    cer = 100 * sum(character_edits, NO_EDITS).error_rate
    cer_low, cer_high = bootstrap(character_edits, seed=seed, resamples=resamples)
    return Score(total, 100 * total.error_rate, wer_low, wer_high, cer, cer_low, cer_high)
