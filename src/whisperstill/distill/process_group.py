"""Data-parallel training in the processes that `torchrun` starts; usually there is one.

Each process trains on its share of a step's windows. Sums, counts and gradients are added over all processes before any
division, so the step is that of one process with all windows, up to the order of additions. Each process holds the
optimizer state of its share of the weights, updates those, and broadcasts them (as ZeRO stage 1).
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor

T = TypeVar("T")


class ProcessGroup:
    """One process of `world_size`."""

    def __init__(self, rank: int = 0, world_size: int = 1, device: str = "cpu") -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @classmethod
    def from_environment(cls, device: str) -> "ProcessGroup":
        """Join the group that torchrun describes (NCCL on CUDA, else gloo); without torchrun a single process."""
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
        """Whether this process writes files and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process."""
        return items[self.rank :: self.world_size]

    def owns(self, index: int) -> bool:
        """Whether this process updates the weight with this index."""
        return index % self.world_size == self.rank

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sums of the values over all processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def all_reduce_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Add the gradients over all processes; a process without windows contributes zeros."""
        if self.world_size == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            torch.distributed.all_reduce(weight.grad)

    def broadcast(self, weights: Sequence[Tensor]) -> None:
        """Send every weight from the process that owns it to all others."""
        if self.world_size > 1:
            for index, weight in enumerate(weights):
                torch.distributed.broadcast(weight.data, index % self.world_size)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world_size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
