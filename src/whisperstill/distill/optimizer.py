"""From gradients to weights: AdamW, the learning-rate schedule, the exponential moving average."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.model.whisper import Whisper


def build_optimizer(student: Whisper, settings: LoopSettings, process_group: ProcessGroup) -> torch.optim.AdamW:
    """AdamW over the weights that this process updates, possibly none."""
    trainable = enumerate(trainable_parameters(student).values())
    weights = [weight for index, weight in trainable if process_group.owns(index)]
    return torch.optim.AdamW(
        [{"params": weights}],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate_factor(step: int, total_steps: int, settings: LoopSettings) -> float:
    """Fraction of the peak learning rate at a step (from 0): linear warm-up, then decay to 0 at `total_steps`."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    remaining = max(0.0, (total_steps - step) / max(1, total_steps - settings.warmup_steps))
    if settings.lr_scheduler_type == "constant":
        return 1.0
    return remaining if settings.lr_scheduler_type == "linear" else 0.5 - 0.5 * math.cos(math.pi * remaining)


class EMA:
    """Exponential moving average of the trained weights, used for validation and saved as the result.

    After step n, `ema += (1 - d) (weights - ema)` with d = min(`max_decay`, n / (n + 9)), so that a short run forgets
    its initial weights, too. `torch.optim.swa_utils.AveragedModel` keeps one decay, starts from the weights after the
    first step, and copies the frozen weights as well.
    """

    def __init__(self, network: Whisper, max_decay: float) -> None:
        """`max_decay` 0: no average; the network has its own weights in `applied`."""
        self._max_decay = max_decay
        self._network_weights = trainable_parameters(network) if max_decay else {}
        self.weights = {name: weight.detach().clone() for name, weight in self._network_weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update after step `step` (from 1)."""
        decay = min(self._max_decay, step / (step + 9))
        for name, weight in self._network_weights.items():
            self.weights[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the network has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._network_weights.items():
            current = weight.detach().clone()
            weight.copy_(self.weights[name])
            self.weights[name].copy_(current)
