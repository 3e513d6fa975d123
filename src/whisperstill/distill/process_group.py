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


class ProcessGroup:
    """One process among `world_size`."""

    def __init__(self, rank: int = 0, world_size: int = 1, device: str = "cpu") -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @classmethod
    def from_environment(cls, device: str) -> "ProcessGroup":
        """What torchrun says in the environment; alone without it. Joins the others: over NCCL on CUDA, else gloo."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return cls(device=device)
        rank = int(os.environ["RANK"])
        if device.startswith("cuda"):
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(rank, world_size, device)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process' part of what all of them are to do."""
        return items[self.rank :: self.world_size]

    def owns(self, index: int) -> bool:
        """Whether this process updates the weight of this index."""
        return index % self.world_size == self.rank

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sums of the values over all processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def all_reduce_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """The gradients of all processes, added; a process without windows has none to add."""
        if self.world_size == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            torch.distributed.all_reduce(weight.grad)

    def broadcast(self, weights: Sequence[Tensor]) -> None:
        """Every weight as its owner has it."""
        if self.world_size > 1:
            for index, weight in enumerate(weights):
                torch.distributed.broadcast(weight.data, index % self.world_size)

    def barrier(self) -> None:
        """Go on when all have come here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the others."""
        if self.world_size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
