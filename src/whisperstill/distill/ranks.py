"""Processes that train one student together, as `torchrun` starts them; usually there is one.

Every process reads its share of a step's windows. Sums and counts are added over all of them before anything is
divided, and so are the gradients: the step is that of one process with all the windows, up to the order of additions.
Each process keeps the optimiser's moments of its own share of the weights only, updates those, and tells the others.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor

T = TypeVar("T")


class Ranks:
    """One process among `size`."""

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, device

    @classmethod
    def of_environment(cls, device: str) -> "Ranks":
        """What torchrun says in the environment; alone without it. Joins the others: over NCCL on CUDA, else gloo."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        rank = int(os.environ["RANK"])
        if device.startswith("cuda"):
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(rank, size, device)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This process' part of what all of them are to do."""
        return things[self.rank :: self.size]

    def owns(self, index: int) -> bool:
        """Whether this process updates the weight of this index."""
        return index % self.size == self.rank

    def total(self, *values: float) -> list[float]:
        """Sums of the values over all processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return summed.tolist()

    def sum_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """The gradients of all processes, added; a process without windows has none to add."""
        if self.size == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            torch.distributed.all_reduce(weight.grad)

    def spread(self, weights: Sequence[Tensor]) -> None:
        """Every weight as its owner has it."""
        if self.size > 1:
            for index, weight in enumerate(weights):
                torch.distributed.broadcast(weight.data, index % self.size)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
