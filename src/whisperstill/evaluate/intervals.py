"""How sure an error rate is: bootstrap over utterances.

Utterances are drawn again with replacement, and the rate of each draw is its errors over its reference length (a
ratio of sums, never a mean of rates). The interval holds the middle of the draws (percentile method). What it covers is
the choice of utterances, or of stretches of long ones (see `drawn`); it knows nothing of the choice of speakers:
utterances of one speaker go wrong together, so with few speakers the truth is less sure than the interval says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from whisperstill.records.edits import EditCounts
from whisperstill.text.edits import count_stretches

STRETCH = 100
"""Words, or characters, of a reference: a recording of twice as many is drawn in stretches of about so many."""
Floats = npt.NDArray[np.float64]
_DRAWN_AT_ONCE = 4_000_000  # indices held at a time: 32 MB


def drawn(counts: EditCounts, reference: Sequence[str], hypothesis: Sequence[str]) -> list[EditCounts]:
    """What a bootstrap draws of an utterance: it as a whole, or the stretches of a long one, of which there may be too
    few to draw from. The same stretches whoever hears it."""
    return [counts] if len(reference) < 2 * STRETCH else count_stretches(reference, hypothesis, STRETCH)


@dataclass(frozen=True, slots=True)
class Interval:
    """Low and high end of an error rate, as fractions."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The error rate of `a` minus that of `b` on the same utterances, as fractions."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided: how often draws put the difference on the other side of 0 (at least 1 in resamples + 1), but never
    less than a sign test of the utterances that differ can give: n of them all go one way by chance at 2^(1 - n)."""


def bootstrap(
    counts: Sequence[EditCounts], *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Interval of the corpus error rate of utterances with these counts.

    The same seed gives the same interval. One utterance gives an interval of no width. Draws in which all references
    are empty have no rate and are left out; `ValueError` when there is no reference word at all.
    """
    errors, lengths = _arrays(counts)
    rates = np.concatenate([_rate(errors[i], lengths[i]) for i in _draws(len(counts), seed, resamples)])
    low, high = _ends(rates, confidence)
    return Interval(low, high)


def paired_bootstrap(
    a: Sequence[EditCounts],
    b: Sequence[EditCounts],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Difference:
    """Difference of the error rates of two systems on the same utterances (`a[i]` and `b[i]` are one utterance's).

    Both are read from the same draws, so what is hard for both cancels. Raises `ValueError` when the two differ in
    length or hold no reference word.
    """
    if len(a) != len(b):
        raise ValueError(f"paired counts must be of the same utterances, got {len(a)} and {len(b)}")
    errors_a, lengths_a = _arrays(a)
    errors_b, lengths_b = _arrays(b)
    draws = [
        _rate(errors_a[i], lengths_a[i]) - _rate(errors_b[i], lengths_b[i]) for i in _draws(len(a), seed, resamples)
    ]
    differences = np.concatenate(draws)
    low, high = _ends(differences, confidence)
    known = differences[np.isfinite(differences)]
    tail = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    differ = np.count_nonzero(errors_a / np.maximum(lengths_a, 1) != errors_b / np.maximum(lengths_b, 1))
    p = min(1.0, max(2 * (tail + 1) / (len(known) + 1), 2.0 ** (1 - differ)))
    observed = float(errors_a.sum() / lengths_a.sum() - errors_b.sum() / lengths_b.sum())
    return Difference(observed, low, high, p)


def mean_over_sets(
    sets: Sequence[Sequence[Sequence[EditCounts]]], *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, Interval]:
    """Mean error rate over sets, of systems trained with several seeds, and its interval, as fractions.

    `sets[i][j]` are the utterances of set i as the system of seed j heard them. Each draw takes seeds and, set by set,
    utterances with replacement; all seeds hear the same utterances. Raises `ValueError` where there is no set, or a set
    without any reference word.
    """
    if not sets:
        raise ValueError("a mean over sets needs at least one set")
    seeds = len(sets[0])
    random = np.random.default_rng(seed)
    of_seeds = random.integers(seeds, size=(resamples, seeds))
    observed, draws = [], []
    for number, by_seed in enumerate(sets):
        arrays = [_arrays(counts) for counts in by_seed]
        errors, lengths = np.stack([one for one, _ in arrays]), arrays[0][1]
        observed.append(float((errors.sum(-1) / lengths.sum()).mean()))
        rates = [
            errors[:, drawn].sum(-1).T / lengths[drawn].sum(-1)[:, None]  # [draws, seeds]
            for drawn in _draws(len(lengths), seed + 1 + number, resamples)
        ]
        draws.append(np.take_along_axis(np.concatenate(rates), of_seeds, 1).mean(1))
    low, high = _ends(np.mean(draws, 0), confidence)
    return float(np.mean(observed)), Interval(low, high)


def _arrays(counts: Sequence[EditCounts]) -> tuple[Floats, Floats]:
    errors = np.array([c.errors for c in counts], dtype=np.float64)
    lengths = np.array([c.reference for c in counts], dtype=np.float64)
    if not lengths.sum():
        raise ValueError("an error rate needs at least one reference word")
    return errors, lengths


def _draws(utterances: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices `[draws, utterances]`, in blocks that fit in memory; block size does not change what is drawn."""
    random = np.random.default_rng(seed)
    block = max(1, _DRAWN_AT_ONCE // utterances)
    for done in range(0, resamples, block):
        yield random.integers(utterances, size=(min(block, resamples - done), utterances))


def _rate(errors: Floats, lengths: Floats) -> Floats:
    total = lengths.sum(axis=-1)
    rates: Floats = np.divide(errors.sum(axis=-1), total, out=np.full_like(total, np.nan), where=total > 0)
    return rates


def _ends(rates: Floats, confidence: float) -> tuple[float, float]:
    rest = (1 - confidence) / 2
    low, high = np.nanquantile(rates, [rest, 1 - rest])
    return float(low), float(high)
