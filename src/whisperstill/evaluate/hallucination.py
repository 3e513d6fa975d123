"""How much was said that nobody said (paper, section 5.3).

The paper counts repeated 5-grams and insertions. 5-grams that a speaker repeats are no hallucination, so what the
references repeat is counted, too, and what goes beyond it; a loop at the end of one utterance shows in the ratio of
lengths, where a mean over a corpus would hide it; a stretch that was left out shows as the longest run of deleted
words; and what is heard where nobody speaks is all made up.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from whisperstill.label.repeats import longest_repeat
from whisperstill.records.findings import Hallucination
from whisperstill.text.edits import Pair

GRAM = 5
RUNAWAY_REPEATS = 4
"""Times in a row that a group of words stands in a loop, beyond what the reference has; speech stays below."""


def hallucination(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    alignments: Sequence[Sequence[Pair]],
) -> Hallucination:
    """The figures of a set: words of each utterance after normalisation, and how they are aligned.

    An utterance without words in its reference is one in which nobody speaks.
    """
    heard, said = _grams(hypotheses), _grams(references)
    ratios = [len(h) / len(r) for r, h in zip(references, hypotheses, strict=True) if r]
    silent = [h for r, h in zip(references, hypotheses, strict=True) if not r]
    words = sum(map(len, references))
    inserted = sum(mine is None for pairs in alignments for mine, _ in pairs)
    ends = np.quantile(ratios, [0.95, 0.99]) if ratios else (0.0, 0.0)
    return Hallucination(
        five_grams=heard.total(),
        repeated_five_grams=heard.total() - len(heard),
        repeated_in_reference=said.total() - len(said),
        repeated_beyond_reference=sum(
            max(0, (count - 1) - max(0, said[gram] - 1)) for gram, count in heard.items() if count > 1
        ),
        insertion_rate=100 * inserted / words if words else 0.0,
        length_ratio_95=float(ends[0]),
        length_ratio_99=float(ends[1]),
        runaways=sum(is_runaway(r, h) for r, h in zip(references, hypotheses, strict=True)),
        longest_deletion=max(map(longest_deletion, alignments), default=0),
        words_on_non_speech=sum(map(len, silent)),
        clips_with_words=sum(map(bool, silent)),
        clips_non_speech=len(silent),
    )


def repeated_five_grams(texts: Iterable[Sequence[str]]) -> int:
    """5-grams less distinct 5-grams, over a set (paper, table 8: `5-Dup.`)."""
    grams = _grams(texts)
    return grams.total() - len(grams)


def is_runaway(reference: Sequence[str], hypothesis: Sequence[str]) -> bool:
    """Whether a group of 1 to 8 words stands `RUNAWAY_REPEATS` times in a row or more, and oftener than was said."""
    repeats = longest_repeat(hypothesis)
    return repeats >= RUNAWAY_REPEATS and repeats > longest_repeat(reference)


def longest_deletion(pairs: Iterable[Pair]) -> int:
    """Words of the longest run that was left out."""
    longest = run = 0
    for _, theirs in pairs:
        run = run + 1 if theirs is None else 0
        longest = max(longest, run)
    return longest


def _grams(texts: Iterable[Sequence[str]]) -> Counter[tuple[str, ...]]:
    """How often each 5-gram stands; none reaches from one utterance into the next."""
    return Counter(tuple(text[at : at + GRAM]) for text in texts for at in range(len(text) - GRAM + 1))
