"""Learning-rate schedule, sharded optimizer, exponential moving average."""

import itertools
from pathlib import Path

import pytest
import torch

from whisperstill.distill.optimizer import EMA, build_optimizer, learning_rate_factor
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.model.dims import Dims
from whisperstill.model.whisper import Whisper


@pytest.mark.parametrize("lr_scheduler_type", ["linear", "cosine", "constant"])
def test_learning_rate_warms_up_then_decays(lr_scheduler_type) -> None:
    settings = LoopSettings(Path(), Path(), Path(), warmup_steps=10, lr_scheduler_type=lr_scheduler_type)
    factors = [learning_rate_factor(step, 100, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert [(a, b) for a, b in itertools.pairwise(factors[10:]) if not a >= b] == []
    assert factors[-1] == pytest.approx(1.0) if lr_scheduler_type == "constant" else factors[-1] < 0.02


def test_linear_schedule_is_halfway_at_the_middle_of_the_decay() -> None:
    settings = LoopSettings(Path(), Path(), Path(), warmup_steps=10, lr_scheduler_type="linear")
    assert learning_rate_factor(55, 100, settings) == pytest.approx(0.5)


def test_processes_share_the_optimizer_state(small_dims: Dims) -> None:
    network, settings = Whisper(small_dims), LoopSettings(Path(), Path(), Path())
    shards = [build_optimizer(network, settings, ProcessGroup(rank, 3)).param_groups[0]["params"] for rank in range(3)]
    owned = [id(weight) for shard in shards for weight in shard]
    assert sorted(owned) == sorted(map(id, trainable_parameters(network).values()))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_ema_forgets_the_initial_weights_early_and_swaps(small_dims: Dims) -> None:
    network = Whisper(small_dims)
    torch.nn.init.zeros_(network.decoder.positions)
    ema = EMA(network, max_decay=0.5)
    torch.nn.init.ones_(network.decoder.positions)
    ema.update(1)
    torch.testing.assert_close(
        ema.weights["decoder.positions"], torch.full_like(network.decoder.positions, 0.9), rtol=0, atol=0
    )  # decay 0.1
    ema.update(1000)
    average = torch.full_like(network.decoder.positions, 0.95)  # decay 0.5
    torch.testing.assert_close(ema.weights["decoder.positions"], average, rtol=1e-5, atol=1e-8)
    with ema.applied():
        torch.testing.assert_close(network.decoder.positions.detach(), average.detach(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(network.decoder.positions, torch.ones_like(network.decoder.positions), rtol=0, atol=0)
