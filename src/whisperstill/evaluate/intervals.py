"""How sure an error rate is: bootstrap over utterances.

Utterances are drawn again with replacement, and the rate of each draw is its errors over its reference length (a
ratio of sums, never a mean of rates). The interval holds the middle of the draws (percentile method). What it covers is
the choice of utterances, or of stretches of long ones (see `bootstrap_blocks`); it knows nothing of the choice of
speakers: utterances of one speaker go wrong together, so with few speakers the truth is less sure than the interval
says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from whisperstill.records.edit_counts import EditCounts
from whisperstill.text.edit_distance import count_edits_per_block

BOOTSTRAP_BLOCK_WORDS = 100
"""Words, or characters, of a reference: a recording of twice as many is drawn in stretches of about so many."""
FloatArray = npt.NDArray[np.float64]
_MAX_RESAMPLED_INDICES = 4_000_000  # indices held at a time: 32 MB


def bootstrap_blocks(counts: EditCounts, reference: Sequence[str], hypothesis: Sequence[str]) -> list[EditCounts]:
    """What a bootstrap draws of an utterance: it as a whole, or the stretches of a long one, of which there may be too
    few to draw from. The same stretches whoever hears it."""
    return (
        [counts]
        if len(reference) < 2 * BOOTSTRAP_BLOCK_WORDS
        else count_edits_per_block(reference, hypothesis, BOOTSTRAP_BLOCK_WORDS)
    )


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
    p_value: float
    """Two-sided: how often draws put the difference on the other side of 0 (at least 1 in resamples + 1), but never
    less than a sign test of the utterances that differ can give: n of them all go one way by chance at 2^(1 - n)."""


def bootstrap(
    counts: Sequence[EditCounts], *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Interval of the corpus error rate of utterances with these counts.

    The same seed gives the same interval. One utterance gives an interval of no width. Draws in which all references
    are empty have no rate and are left out; `ValueError` when there is no reference word at all.
    """
    errors, lengths = _to_arrays(counts)
    rates = np.concatenate(
        [_error_rates(errors[i], lengths[i]) for i in _resample_indices(len(counts), seed, resamples)]
    )
    low, high = _percentile_interval(rates, confidence)
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
    errors_a, lengths_a = _to_arrays(a)
    errors_b, lengths_b = _to_arrays(b)
    draws = [
        _error_rates(errors_a[i], lengths_a[i]) - _error_rates(errors_b[i], lengths_b[i])
        for i in _resample_indices(len(a), seed, resamples)
    ]
    differences = np.concatenate(draws)
    low, high = _percentile_interval(differences, confidence)
    finite = differences[np.isfinite(differences)]
    tail = min(np.count_nonzero(finite <= 0), np.count_nonzero(finite >= 0))
    num_differing = np.count_nonzero(errors_a / np.maximum(lengths_a, 1) != errors_b / np.maximum(lengths_b, 1))
    p_value = min(1.0, max(2 * (tail + 1) / (len(finite) + 1), 2.0 ** (1 - num_differing)))
    observed = float(errors_a.sum() / lengths_a.sum() - errors_b.sum() / lengths_b.sum())
    return Difference(observed, low, high, p_value)


def mean_over_datasets(
    datasets: Sequence[Sequence[Sequence[EditCounts]]],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Mean error rate over sets, of systems trained with several seeds, and its interval, as fractions.

    `datasets[i][j]` are the utterances of dataset i as the system of seed j heard them. Each draw takes seeds and, set
    by set, utterances with replacement; all seeds hear the same utterances. Raises `ValueError` where there is no set,
    or a set without any reference word.
    """
    if not datasets:
        raise ValueError("a mean over sets needs at least one set")
    num_seeds = len(datasets[0])
    rng = np.random.default_rng(seed)
    seed_indices = rng.integers(num_seeds, size=(resamples, num_seeds))
    observed, draws = [], []
    for dataset_index, by_seed in enumerate(datasets):
        arrays = [_to_arrays(counts) for counts in by_seed]
        errors, lengths = np.stack([seed_errors for seed_errors, _ in arrays]), arrays[0][1]
        observed.append(float((errors.sum(-1) / lengths.sum()).mean()))
        rates = [
            errors[:, indices].sum(-1).T / lengths[indices].sum(-1)[:, None]  # [draws, seeds]
            for indices in _resample_indices(len(lengths), seed + 1 + dataset_index, resamples)
        ]
        draws.append(np.take_along_axis(np.concatenate(rates), seed_indices, 1).mean(1))
    low, high = _percentile_interval(np.mean(draws, 0), confidence)
    return float(np.mean(observed)), Interval(low, high)


def _to_arrays(counts: Sequence[EditCounts]) -> tuple[FloatArray, FloatArray]:
    errors = np.array([c.errors for c in counts], dtype=np.float64)
    lengths = np.array([c.reference_length for c in counts], dtype=np.float64)
    if not lengths.sum():
        raise ValueError("an error rate needs at least one reference word")
    return errors, lengths


def _resample_indices(num_utterances: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices `[draws, utterances]`, in blocks that fit in memory; block size does not change what is drawn."""
    rng = np.random.default_rng(seed)
    max_rows = max(1, _MAX_RESAMPLED_INDICES // num_utterances)
    for start in range(0, resamples, max_rows):
        yield rng.integers(num_utterances, size=(min(max_rows, resamples - start), num_utterances))


def _error_rates(errors: FloatArray, lengths: FloatArray) -> FloatArray:
    total = lengths.sum(axis=-1)
    rates: FloatArray = np.divide(errors.sum(axis=-1), total, out=np.full_like(total, np.nan), where=total > 0)
    return rates


def _percentile_interval(rates: FloatArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(rates, [tail, 1 - tail])
    return float(low), float(high)
