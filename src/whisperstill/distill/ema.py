"""An average over the last steps' weights, which is heard instead of the last weights.

After each step `ema += (1 - d) (weights - ema)`, where d grows from 0.1 to the decay asked for, so that a short
run, too, forgets where it began (Polyak averaging, as most speech recipes have it).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.model.whisper import Whisper


class EMA:
    """Averages of the weights that are trained."""

    def __init__(self, network: Whisper, max_decay: float) -> None:
        self._max_decay = max_decay
        self._network_weights = trainable_parameters(network)
        self.weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in self._network_weights.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step `step` (the first is 1)."""
        decay = min(self._max_decay, step / (step + 9))
        for name, weight in self._network_weights.items():
            self.weights[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the network has the average's weights."""
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
