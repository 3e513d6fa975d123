"""Bootstrap intervals against a slow twin, theory and their nominal coverage."""

import numpy as np
import pytest

from whisperstill.evaluate import intervals
from whisperstill.evaluate.intervals import bootstrap, mean_over_datasets, paired_bootstrap
from whisperstill.records import EditCounts


def counts(errors: int, words: int) -> EditCounts:
    return EditCounts(words - errors, errors, 0, 0)


def sample(random: np.random.Generator, utterances: int, rate: float) -> list[EditCounts]:
    words = random.integers(5, 20, size=utterances)
    return [counts(int(random.binomial(n, rate)), int(n)) for n in words]


def slow(items: list[EditCounts], seed: int, resamples: int) -> tuple[float, float]:
    """Slow twin: one resample at a time, in plain Python."""
    draws = np.random.default_rng(seed).integers(len(items), size=(resamples, len(items)))
    rates = []
    for draw in draws:
        chosen = [items[i] for i in draw]
        rates.append(sum(c.errors for c in chosen) / sum(c.reference_length for c in chosen))
    return 100 * float(np.quantile(rates, 0.025)), 100 * float(np.quantile(rates, 0.975))


def test_equals_the_slow_twin() -> None:
    items = sample(np.random.default_rng(1), 40, 0.2)
    assert bootstrap(items, seed=3, resamples=200) == pytest.approx(slow(items, 3, 200))


def test_memory_limit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    items = sample(np.random.default_rng(1), 40, 0.2)
    unlimited = bootstrap(items, resamples=100)
    monkeypatch.setattr(intervals, "_MAX_RESAMPLED_INDICES", 120)
    assert bootstrap(items, resamples=100) == unlimited


def test_one_utterance_has_no_width() -> None:
    assert bootstrap([counts(1, 4)]) == (25, 25)


def test_resamples_without_reference_words_are_left_out() -> None:
    interval = bootstrap([counts(1, 4), EditCounts(0, 0, 0, 3)], resamples=50)
    assert np.isfinite(interval).all()
    with pytest.raises(ValueError, match="at least one reference word"):
        bootstrap([EditCounts(0, 0, 0, 3)])
    with pytest.raises(ValueError, match="at least one reference word"):
        bootstrap([])


def test_coverage_is_95_percent() -> None:
    """Utterances of very different difficulty: 95 % intervals hold the true rate in 93 to 97 % of trials."""
    random = np.random.default_rng(5)
    covered = narrow = 0
    for trial in range(800):
        words = random.integers(5, 30, size=120)
        errors = random.binomial(words, random.beta(0.5, 4.5, size=120))
        items = [counts(int(e), int(n)) for e, n in zip(errors, words, strict=True)]
        low, high = bootstrap(items, seed=trial, resamples=300)
        covered += low <= 10 <= high
        narrow += low <= 10 <= (low + high) / 2
    assert 0.93 <= covered / 800 <= 0.97
    assert narrow / 800 < 0.7  # negative control: half of the interval


def test_a_mean_weights_datasets_equally() -> None:
    small, large = [counts(5, 10)], [counts(0, 10)] * 99
    mean, _ = mean_over_datasets([[small], [large]])
    assert mean == 25  # not 5 of 1000 words
    with pytest.raises(ValueError, match="at least one dataset"):
        mean_over_datasets([])


def test_the_mean_of_one_dataset_and_seed_is_its_rate() -> None:
    items = sample(np.random.default_rng(1), 60, 0.2)
    mean, interval = mean_over_datasets([[items]], seed=7, resamples=500)
    assert mean == pytest.approx(100 * sum(c.errors for c in items) / sum(c.reference_length for c in items))
    assert interval == pytest.approx(bootstrap(items, seed=8, resamples=500))


def test_different_seeds_widen_the_interval_of_a_mean() -> None:
    random = np.random.default_rng(2)
    first, worse = sample(random, 80, 0.1), sample(random, 80, 0.3)
    _, (alike_low, alike_high) = mean_over_datasets([[first, first]])
    mean, (low, high) = mean_over_datasets([[first, worse]])
    assert high - low > 2 * (alike_high - alike_low)
    assert low < mean < high


def test_width_agrees_with_theory() -> None:
    items = [counts(int(e), 10) for e in np.random.default_rng(0).binomial(10, 0.3, size=400)]
    low, high = bootstrap(items, resamples=2000)
    theory = 100 * 2 * 1.96 * np.sqrt(0.3 * 0.7 / 4000)
    assert high - low == pytest.approx(theory, rel=0.15)


def test_a_system_does_not_differ_from_itself() -> None:
    items = sample(np.random.default_rng(0), 50, 0.2)
    result = paired_bootstrap(items, items)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_pairing_finds_differences_that_single_intervals_hide() -> None:
    """Utterances of very different difficulty; `a` makes one error more on a third of them."""
    random = np.random.default_rng(0)
    base = random.integers(0, 15, size=120)
    b = [counts(int(e), 20) for e in base]
    a = [counts(int(e) + (i % 3 == 0), 20) for i, e in enumerate(base)]
    assert bootstrap(b)[1] > bootstrap(a)[0]  # the intervals overlap
    result = paired_bootstrap(a, b)
    assert result.difference == pytest.approx(100 * 40 / 2400)
    assert 0 < result.low < result.difference < result.high
    assert result.p_value < 0.01
    back = paired_bootstrap(b, a)
    assert (back.difference, back.p_value) == pytest.approx((-result.difference, result.p_value))


def test_p_values_are_not_small_without_a_difference() -> None:
    """Negative control: equal systems, many trials."""
    random = np.random.default_rng(5)
    small = sum(
        paired_bootstrap(sample_like(random, 80), sample_like(random, 80), seed=i, resamples=300).p_value < 0.05
        for i in range(60)
    )
    assert small <= 9


def sample_like(random: np.random.Generator, utterances: int) -> list[EditCounts]:
    return [counts(int(e), 12) for e in random.binomial(12, 0.2, size=utterances)]


def test_paired_counts_must_have_the_same_length() -> None:
    with pytest.raises(ValueError, match="same utterances, got 1 and 2"):
        paired_bootstrap([counts(0, 1)], [counts(0, 1)] * 2)
