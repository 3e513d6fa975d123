"""Confidence intervals of error rates: bootstrap over utterances.

Utterances are resampled with replacement; the error rate of a resample is its errors over its reference length (a ratio
of sums, not a mean of rates). Intervals are percentile intervals. They cover the choice of utterances, or of blocks of
long ones (`bootstrap_blocks`), but not the choice of speakers: errors correlate within a speaker, so with few speakers
the true uncertainty is larger.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.eval_results import PairedDifference
from whisperstill.text.edit_distance import count_edits_per_block

BOOTSTRAP_BLOCK_WORDS = 100
"""Words (or characters) of a block; a reference of twice as many is split into blocks of about this length."""
FloatArray: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
"""Ends of the 95 % confidence interval of an error rate, per cent."""
_MAX_RESAMPLED_INDICES = 4_000_000  # at a time: 32 MB


def bootstrap_blocks(counts: EditCounts, reference: Sequence[str], hypothesis: Sequence[str]) -> list[EditCounts]:
    """Units that the bootstrap resamples for one utterance: the utterance, or blocks of a long recording.

    A dataset may hold too few long recordings to resample. Blocks depend on the reference only, so they pair up across
    systems.
    """
    if len(reference) < 2 * BOOTSTRAP_BLOCK_WORDS:
        return [counts]
    return count_edits_per_block(reference, hypothesis, BOOTSTRAP_BLOCK_WORDS)


def bootstrap(counts: Sequence[EditCounts], *, seed: int = 0, resamples: int = 1000) -> Interval:
    """Confidence interval of the error rate over utterances with these edit counts, deterministic given `seed`.

    Resamples without any reference word are left out. Raises `ValueError` without a reference word.
    """
    errors, lengths = _to_arrays(counts)
    draws = [_error_rates(errors[i], lengths[i]) for i in _resample_indices(len(counts), seed, resamples)]
    return _percentile_interval(np.concatenate(draws))


def paired_bootstrap(
    a: Sequence[EditCounts], b: Sequence[EditCounts], *, seed: int = 0, resamples: int = 1000
) -> PairedDifference:
    """Error rate of system `a` minus that of `b` on the same utterances (`a[i]` and `b[i]` belong together).

    Both rates come from the same resamples, so that utterances that are hard for both cancel. Raises `ValueError` if
    the lengths differ, or without a reference word.
    """
    if len(a) != len(b):
        raise ValueError(f"expected counts of the same utterances, got {len(a)} and {len(b)}")
    # 1. Resample both systems with the same indices.
    errors_a, lengths_a = _to_arrays(a)
    errors_b, lengths_b = _to_arrays(b)
    draws = [
        _error_rates(errors_a[i], lengths_a[i]) - _error_rates(errors_b[i], lengths_b[i])
        for i in _resample_indices(len(a), seed, resamples)
    ]
    differences = np.concatenate(draws)
    # 2. Two-sided p-value, bounded by the sign test.
    finite = differences[np.isfinite(differences)]
    tail = min(np.count_nonzero(finite <= 0), np.count_nonzero(finite >= 0))
    num_differing = np.count_nonzero(errors_a / np.maximum(lengths_a, 1) != errors_b / np.maximum(lengths_b, 1))
    p_value = min(1.0, max(2 * (tail + 1) / (len(finite) + 1), 2.0 ** (1 - num_differing)))
    observed = float(errors_a.sum() / lengths_a.sum() - errors_b.sum() / lengths_b.sum())
    return PairedDifference(100 * observed, *_percentile_interval(differences), p_value)


def mean_over_datasets(
    datasets: Sequence[Sequence[Sequence[EditCounts]]], *, seed: int = 0, resamples: int = 1000
) -> tuple[float, Interval]:
    """Mean error rate over datasets and training seeds, per cent, and its interval.

    `datasets[i][j]` holds the edit counts of dataset i for the system of seed j. Each resample draws seeds, and for
    each dataset utterances, with replacement; all seeds share the utterances. Raises `ValueError` without a dataset,
    or for a dataset without a reference word.
    """
    if not datasets:
        raise ValueError("expected at least one dataset, got none")
    num_seeds = len(datasets[0])
    rng = np.random.default_rng(seed)
    seed_indices = rng.integers(num_seeds, size=(resamples, num_seeds))
    observed, draws = [], []
    for dataset_index, by_seed in enumerate(datasets):
        arrays = [_to_arrays(counts) for counts in by_seed]
        errors, lengths = np.stack([seed_errors for seed_errors, _ in arrays]), arrays[0][1]
        observed.append(float((errors.sum(-1) / lengths.sum()).mean()))
        rates = [
            errors[:, indices].sum(-1).T / lengths[indices].sum(-1)[:, None]  # [resamples, seeds]
            for indices in _resample_indices(len(lengths), seed + 1 + dataset_index, resamples)
        ]
        draws.append(np.take_along_axis(np.concatenate(rates), seed_indices, 1).mean(1))
    return 100 * float(np.mean(observed)), _percentile_interval(np.mean(draws, 0))


def _to_arrays(counts: Sequence[EditCounts]) -> tuple[FloatArray, FloatArray]:
    errors = np.array([c.errors for c in counts], dtype=np.float64)
    lengths = np.array([c.reference_length for c in counts], dtype=np.float64)
    if not lengths.sum():
        raise ValueError("an error rate needs at least one reference word")
    return errors, lengths


def _resample_indices(num_utterances: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices `[resamples, utterances]` in parts that fit in memory; the size of parts does not change the indices."""
    rng = np.random.default_rng(seed)
    max_rows = max(1, _MAX_RESAMPLED_INDICES // num_utterances)
    for start in range(0, resamples, max_rows):
        yield rng.integers(num_utterances, size=(min(max_rows, resamples - start), num_utterances))


def _error_rates(errors: FloatArray, lengths: FloatArray) -> FloatArray:
    total = lengths.sum(axis=-1)
    rates: FloatArray = np.divide(errors.sum(axis=-1), total, out=np.full_like(total, np.nan), where=total > 0)
    return rates


def _percentile_interval(rates: FloatArray) -> Interval:
    tail = (1 - 0.95) / 2
    low, high = np.nanquantile(rates, [tail, 1 - tail])
    return 100 * float(low), 100 * float(high)
