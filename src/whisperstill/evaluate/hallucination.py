"""Hallucination metrics (paper, section 5.3).

The paper counts repeated 5-grams and insertions. Speakers repeat 5-grams, too, so repetitions in the references are
counted as well, and those of the hypotheses beyond them. A repetition loop in one utterance shows in the upper
percentiles of the length ratio, where a mean would hide it; a skipped passage shows as the longest run of deletions; on
audio without speech every word is a hallucination.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from whisperstill.records.eval_results import HallucinationMetrics
from whisperstill.text.edit_distance import AlignedPair
from whisperstill.text.repetition import count_ngram_repeats

NGRAM_SIZE = 5
MIN_LOOP_REPEATS = 4
"""Consecutive repetitions of a phrase that count as a loop; speech stays below."""


def compute_hallucination_metrics(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    alignments: Sequence[Sequence[AlignedPair]],
) -> HallucinationMetrics:
    """Metrics of a dataset from normalized words and alignments by utterance.

    An utterance without words in its reference counts as non-speech.
    """
    ngrams, reference_ngrams = _count_ngrams(hypotheses), _count_ngrams(references)
    repeats, reference_repeats = ngrams - Counter([*ngrams]), reference_ngrams - Counter([*reference_ngrams])
    ratios = [len(h) / len(r) for r, h in zip(references, hypotheses, strict=True) if r]
    non_speech = [h for r, h in zip(references, hypotheses, strict=True) if not r]
    words = sum(map(len, references))
    insertions = sum(reference_index is None for pairs in alignments for reference_index, _ in pairs)
    percentiles = np.quantile(ratios, [0.95, 0.99]) if ratios else (0.0, 0.0)
    return HallucinationMetrics(
        five_grams=ngrams.total(),
        repeated_five_grams=repeats.total(),
        repeated_in_reference=reference_repeats.total(),
        repeated_beyond_reference=(repeats - reference_repeats).total(),
        insertion_rate=100 * insertions / words if words else 0.0,
        length_ratio_p95=float(percentiles[0]),
        length_ratio_p99=float(percentiles[1]),
        repetition_loops=sum(has_repetition_loop(r, h) for r, h in zip(references, hypotheses, strict=True)),
        longest_deletion=max(map(longest_deletion, alignments), default=0),
        words_on_non_speech=sum(map(len, non_speech)),
        non_speech_clips_with_words=sum(map(bool, non_speech)),
        non_speech_clips=len(non_speech),
    )


def has_repetition_loop(reference: Sequence[str], hypothesis: Sequence[str]) -> bool:
    """Whether a phrase of 1 to 8 words repeats `MIN_LOOP_REPEATS` times in a row, and more than in the reference."""
    repeats = count_ngram_repeats(hypothesis)
    return repeats >= MIN_LOOP_REPEATS and repeats > count_ngram_repeats(reference)


def longest_deletion(pairs: Iterable[AlignedPair]) -> int:
    """Words in the longest run of deletions."""
    longest = run = 0
    for _, hypothesis_index in pairs:
        run = run + 1 if hypothesis_index is None else 0
        longest = max(longest, run)
    return longest


def _count_ngrams(texts: Iterable[Sequence[str]]) -> Counter[tuple[str, ...]]:
    """Counts of 5-grams within utterances."""
    return Counter(
        tuple(text[start : start + NGRAM_SIZE]) for text in texts for start in range(len(text) - NGRAM_SIZE + 1)
    )
