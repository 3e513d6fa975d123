"""Tokens drawn with noise that belongs to a place."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whisperstill.decode.generate.sampling import Sampler, gumbel_noise, sampling_seed

DRAWS = 20_000
LOGITS = torch.tensor([[2.0, 0.5, 0.0, -1.0, 1.5, -torch.inf, 0.3]])
IDS = torch.arange(7)
LIMIT = 22.46
"""Of chi-square with 6 degrees of freedom, beyond which one in a thousand lies (5 degrees: 20.5)."""


def keys(count: int, seed: int = 0) -> Tensor:
    return torch.tensor([sampling_seed(seed, number) for number in range(count)])


def drawn(logits: Tensor, temperature: float, key: Tensor, position: Tensor | int = 5, ids: Tensor = IDS) -> Tensor:
    rows = len(key)
    place = torch.full((rows,), position) if isinstance(position, int) else position
    draw = Sampler(torch.full((rows,), temperature), key, temperature == 0)
    return draw.sample(logits.expand(rows, -1).clone(), place, ids)


def chi_square(tokens: Tensor, probability: Tensor, ids: Tensor = IDS) -> float:
    """Of counts against what is expected, where anything is."""
    expected = probability * len(tokens)
    counts = torch.stack([(tokens == one).sum() for one in ids]).double()
    assert counts[expected == 0].sum() == 0
    some = expected > 0
    return float(((counts[some] - expected[some]) ** 2 / expected[some]).sum())


def test_over_keys_draws_are_distributed_as_softmax() -> None:
    for temperature in (0.4, 1.0):
        probability = (LOGITS[0].double() / temperature).softmax(0)
        assert chi_square(drawn(LOGITS, temperature, keys(DRAWS)), probability) < LIMIT


def test_over_positions_as_well() -> None:
    tokens = drawn(LOGITS, 1.0, keys(1).expand(DRAWS), torch.arange(DRAWS))
    assert chi_square(tokens, LOGITS[0].double().softmax(0)) < LIMIT


def test_the_check_of_the_distribution_can_fail() -> None:
    """Draws at one temperature are not those of another, and keys that are nearly alike would not do without mixing."""
    assert chi_square(drawn(LOGITS, 0.9, keys(DRAWS)), LOGITS[0].double().softmax(0)) > LIMIT
    assert chi_square(drawn(LOGITS, 1.0, torch.arange(DRAWS)), LOGITS[0].double().softmax(0)) < LIMIT


def test_draws_of_two_positions_are_independent() -> None:
    two = torch.zeros(1, 2)
    first, second = (drawn(two, 1.0, keys(DRAWS), at, torch.arange(2)).double() for at in (1, 2))
    assert abs(float(((first - 0.5) * (second - 0.5)).mean() * 4)) < 4 / DRAWS**0.5


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 447), st.permutations(range(6)), st.integers(1, 6))
def test_a_draw_knows_nothing_of_its_batch(key: int, position: int, order: list[int], count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, others = torch.randn(6, 7, generator=generator), keys(6)
    others[0] = key
    temperature = torch.tensor([0.7, 0.0, 1.0, 0.2, 0.0, 0.5])
    places = torch.full((6,), position)
    together = Sampler(temperature, others, False).sample(logits.clone(), places, IDS)
    some = torch.tensor(order[:count])
    alone = Sampler(temperature[some], others[some], False).sample(logits[some].clone(), places[some], IDS)
    assert torch.equal(together[some], alone)
    assert torch.equal(together[[1, 4]], logits[[1, 4]].argmax(-1))  # temperature 0 takes no notice of the noise


def test_rows_of_a_block_are_drawn_as_one_by_one() -> None:
    draw = Sampler(torch.tensor([0.8, 1.0]), keys(2), False)
    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(2))
    places = torch.tensor([3, 4, 5, 8, 9, 10])
    block = draw.repeat_interleave(3).sample(logits.clone(), places, IDS)
    for row in range(6):
        one = Sampler(draw.temperature[row // 3 : row // 3 + 1], draw.seed[row // 3 : row // 3 + 1], False)
        assert torch.equal(one.sample(logits[row : row + 1].clone(), places[row : row + 1], IDS)[0], block[row])


def test_a_listed_token_hears_the_noise_it_always_hears() -> None:
    """Where a list holds the token that is drawn among all, it is drawn among the listed."""
    listed = torch.tensor([0, 2, 4, 6])
    among_all = drawn(LOGITS, 1.0, keys(500))
    among_listed = drawn(LOGITS[:, listed], 1.0, keys(500), ids=listed)
    held = torch.isin(among_all, listed)
    assert 100 < int(held.sum()) < 500
    assert torch.equal(among_all[held], among_listed[held])
    assert torch.isin(among_listed, listed).all()
    renumbered = drawn(LOGITS[:, listed], 1.0, keys(500), ids=torch.arange(4))
    assert not torch.equal(listed[renumbered], among_listed)


def test_noise_is_the_same_on_every_machine() -> None:
    assert sampling_seed(0, 1500, 2, 3) == sampling_seed(0, 1500, 2, 3) != sampling_seed(0, 1500, 3, 2)
    assert sampling_seed(1, 23) != sampling_seed(12, 3)
    known = gumbel_noise(torch.tensor([sampling_seed(0)]), torch.tensor([7]), torch.tensor([11, 12]))
    again = gumbel_noise(torch.tensor([sampling_seed(0)] * 2), torch.tensor([7, 8]), torch.tensor([12]))
    assert torch.equal(known[0, 1], again[0, 0]) and not torch.equal(again[0, 0], again[1, 0])
    assert torch.isfinite(gumbel_noise(keys(2000), torch.arange(2000), torch.arange(50))).all()
