"""Sampling with noise that depends on seed, position and token only."""

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from whisperstill.decode.generate.sampling import Sampler, gumbel_noise, sampling_seed

DRAWS = 20_000
LOGITS = torch.tensor([[2.0, 0.5, 0.0, -1.0, 1.5, -torch.inf, 0.3]])
IDS = torch.arange(7)
LIMIT = 22.46
"""99.9 % quantile of chi-square with 6 degrees of freedom (5 degrees: 20.5)."""


def seeds(count: int) -> Tensor:
    return torch.tensor([sampling_seed(0, number) for number in range(count)])


def sample(logits: Tensor, temperature: float, seed: Tensor, position: Tensor | int = 5, ids: Tensor = IDS) -> Tensor:
    rows = len(seed)
    positions = torch.full((rows,), position) if isinstance(position, int) else position
    draw = Sampler(torch.full((rows,), temperature), seed, temperature == 0)
    return draw.sample(logits.expand(rows, -1).clone(), positions, ids)


def chi_square(tokens: Tensor, probability: Tensor, ids: Tensor = IDS) -> float:
    """Chi-square statistic over the tokens with probability above 0."""
    expected = probability * len(tokens)
    counts = torch.stack([(tokens == token).sum() for token in ids]).double()
    assert counts[expected == 0].sum() == 0
    some = expected > 0
    return float(((counts[some] - expected[some]) ** 2 / expected[some]).sum())


def test_samples_over_seeds_follow_softmax() -> None:
    for temperature in (0.4, 1.0):
        probability = (LOGITS[0].double() / temperature).softmax(0)
        assert chi_square(sample(LOGITS, temperature, seeds(DRAWS)), probability) < LIMIT


def test_samples_over_positions_follow_softmax() -> None:
    tokens = sample(LOGITS, 1.0, seeds(1).expand(DRAWS), torch.arange(DRAWS))
    assert chi_square(tokens, LOGITS[0].double().softmax(0)) < LIMIT


def test_control_wrong_temperature_fails_chi_square() -> None:
    """Another temperature is detected; consecutive integers as seeds are mixed well enough."""
    assert chi_square(sample(LOGITS, 0.9, seeds(DRAWS)), LOGITS[0].double().softmax(0)) > LIMIT
    assert chi_square(sample(LOGITS, 1.0, torch.arange(DRAWS)), LOGITS[0].double().softmax(0)) < LIMIT


def test_positions_are_independent() -> None:
    two = torch.zeros(1, 2)
    first, second = (sample(two, 1.0, seeds(DRAWS), position, torch.arange(2)).double() for position in (1, 2))
    assert abs(float(((first - 0.5) * (second - 0.5)).mean() * 4)) < 4 / DRAWS**0.5


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 447), st.permutations(range(6)), st.integers(1, 6))
def test_sample_does_not_depend_on_batch(seed: int, position: int, order: list[int], count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, others = torch.randn(6, 7, generator=generator), seeds(6)
    others[0] = seed
    temperature = torch.tensor([0.7, 0.0, 1.0, 0.2, 0.0, 0.5])
    positions = torch.full((6,), position)
    together = Sampler(temperature, others, False).sample(logits.clone(), positions, IDS)
    some = torch.tensor(order[:count])
    alone = Sampler(temperature[some], others[some], False).sample(logits[some].clone(), positions[some], IDS)
    torch.testing.assert_close(together[some], alone, rtol=0, atol=0)
    torch.testing.assert_close(together[[1, 4]], logits[[1, 4]].argmax(-1), rtol=0, atol=0)  # temperature 0 is greedy


def test_block_equals_single_tokens() -> None:
    draw = Sampler(torch.tensor([0.8, 1.0]), seeds(2), False)
    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(2))
    positions = torch.tensor([3, 4, 5, 8, 9, 10])
    block = draw.repeat_interleave(3).sample(logits.clone(), positions, IDS)
    for row in range(6):
        single = Sampler(draw.temperature[row // 3 : row // 3 + 1], draw.seed[row // 3 : row // 3 + 1], False)
        torch.testing.assert_close(
            single.sample(logits[row : row + 1].clone(), positions[row : row + 1], IDS)[0], block[row], rtol=0, atol=0
        )


def test_reduced_vocabulary_has_the_same_noise() -> None:
    """A token sampled from all tokens is also sampled from a subset that contains it."""
    listed = torch.tensor([0, 2, 4, 6])
    among_all = sample(LOGITS, 1.0, seeds(500))
    among_listed = sample(LOGITS[:, listed], 1.0, seeds(500), ids=listed)
    held = torch.isin(among_all, listed)
    assert 100 < int(held.sum()) < 500
    torch.testing.assert_close(among_all[held], among_listed[held], rtol=0, atol=0)
    assert torch.isin(among_listed, listed).all()
    renumbered = sample(LOGITS[:, listed], 1.0, seeds(500), ids=torch.arange(4))
    assert not torch.equal(listed[renumbered], among_listed)


def test_noise_is_a_function_of_seed_position_token() -> None:
    assert sampling_seed(0, 1500, 2, 3) == sampling_seed(0, 1500, 2, 3) != sampling_seed(0, 1500, 3, 2)
    assert sampling_seed(1, 23) != sampling_seed(12, 3)
    known = gumbel_noise(torch.tensor([sampling_seed(0)]), torch.tensor([7]), torch.tensor([11, 12]))
    again = gumbel_noise(torch.tensor([sampling_seed(0)] * 2), torch.tensor([7, 8]), torch.tensor([12]))
    torch.testing.assert_close(known[0, 1], again[0, 0], rtol=0, atol=0)
    assert not torch.equal(again[0, 0], again[1, 0])
    assert torch.isfinite(gumbel_noise(seeds(2000), torch.arange(2000), torch.arange(50))).all()
