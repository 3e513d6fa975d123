"""Learning-rate schedules."""

import itertools

import pytest

from whisperstill.distill.lr_schedule import learning_rate_factor


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_warms_up_then_decays(shape) -> None:
    factors = [
        learning_rate_factor(step, warmup_steps=10, total_steps=100, lr_scheduler_type=shape) for step in range(100)
    ]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(1.0) if shape == "constant" else factors[-1] < 0.02


def test_linear_is_a_line() -> None:
    assert learning_rate_factor(55, warmup_steps=10, total_steps=100, lr_scheduler_type="linear") == pytest.approx(0.5)
