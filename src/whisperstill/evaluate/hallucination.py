"""How much was said that nobody said (paper, section 5.3).

The paper counts repeated 5-grams and insertions. 5-grams that a speaker repeats are no hallucination, so what the
references repeat is counted, too, and what goes beyond it; a loop at the end of one utterance shows in the ratio of
lengths, where a mean over a corpus would hide it; a stretch that was left out shows as the longest run of deleted
words; and what is heard where nobody speaks is all made up.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from whisperstill.records.eval_results import HallucinationMetrics
from whisperstill.text.edit_distance import AlignedPair
from whisperstill.text.repetition import count_ngram_repeats

NGRAM_SIZE = 5
MIN_LOOP_REPEATS = 4
"""Times in a row that a group of words stands in a loop, beyond what the reference has; speech stays below."""


def compute_hallucination_metrics(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    alignments: Sequence[Sequence[AlignedPair]],
) -> HallucinationMetrics:
    """The figures of a set: words of each utterance after normalisation, and how they are aligned.

    An utterance without words in its reference is one in which nobody speaks.
    """
    hypothesis_ngrams, reference_ngrams = _count_ngrams(hypotheses), _count_ngrams(references)
    ratios = [len(h) / len(r) for r, h in zip(references, hypotheses, strict=True) if r]
    non_speech = [h for r, h in zip(references, hypotheses, strict=True) if not r]
    words = sum(map(len, references))
    insertions = sum(reference_index is None for pairs in alignments for reference_index, _ in pairs)
    percentiles = np.quantile(ratios, [0.95, 0.99]) if ratios else (0.0, 0.0)
    return HallucinationMetrics(
        five_grams=hypothesis_ngrams.total(),
        repeated_five_grams=hypothesis_ngrams.total() - len(hypothesis_ngrams),
        repeated_in_reference=reference_ngrams.total() - len(reference_ngrams),
        repeated_beyond_reference=sum(
            max(0, (count - 1) - max(0, reference_ngrams[gram] - 1))
            for gram, count in hypothesis_ngrams.items()
            if count > 1
        ),
        insertion_rate=100 * insertions / words if words else 0.0,
        length_ratio_p95=float(percentiles[0]),
        length_ratio_p99=float(percentiles[1]),
        repetition_loops=sum(has_repetition_loop(r, h) for r, h in zip(references, hypotheses, strict=True)),
        longest_deletion=max(map(longest_deletion, alignments), default=0),
        words_on_non_speech=sum(map(len, non_speech)),
        non_speech_clips_with_words=sum(map(bool, non_speech)),
        non_speech_clips=len(non_speech),
    )


def count_repeated_five_grams(texts: Iterable[Sequence[str]]) -> int:
    """5-grams less distinct 5-grams, over a set (paper, table 8: `5-Dup.`)."""
    grams = _count_ngrams(texts)
    return grams.total() - len(grams)


def has_repetition_loop(reference: Sequence[str], hypothesis: Sequence[str]) -> bool:
    """Whether a group of 1 to 8 words stands `MIN_LOOP_REPEATS` times in a row or more, and oftener than was said."""
    repeats = count_ngram_repeats(hypothesis)
    return repeats >= MIN_LOOP_REPEATS and repeats > count_ngram_repeats(reference)


def longest_deletion(pairs: Iterable[AlignedPair]) -> int:
    """Words of the longest run that was left out."""
    longest = run = 0
    for _, hypothesis_index in pairs:
        run = run + 1 if hypothesis_index is None else 0
        longest = max(longest, run)
    return longest


def _count_ngrams(texts: Iterable[Sequence[str]]) -> Counter[tuple[str, ...]]:
    """How often each 5-gram stands; none reaches from one utterance into the next."""
    return Counter(
        tuple(text[start : start + NGRAM_SIZE]) for text in texts for start in range(len(text) - NGRAM_SIZE + 1)
    )
