"""An average over the last steps' weights, which is heard instead of the last weights.

After each step `average += (1 - d) (weights - average)`, where d grows from 0.1 to the decay asked for, so that a short
run, too, forgets where it began (Polyak averaging, as most speech recipes have it).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from whisperstill.distill.checkpointing import trained
from whisperstill.model.whisper import Whisper


class Average:
    """Averages of the weights that are trained."""

    def __init__(self, network: Whisper, decay: float) -> None:
        self._decay = decay
        self._weights = trained(network)
        self.values: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step `step` (the first is 1)."""
        decay = min(self._decay, step / (step + 9))
        for name, weight in self._weights.items():
            self.values[name].lerp_(weight, 1 - decay)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, the network has the average's weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.values[name])
            self.values[name].copy_(kept)
