"""Labelling by workers of a Ray cluster (extra `ray`); workers may join late, die, and are replaced.

The unit of work is a shard: a worker writes its files atomically, and the driver records it in the manifest. When a
worker dies, its unfinished shard is labelled again by another. All workers must write to a shared disk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from whisperstill.errors import MissingExtraError, StoreError
from whisperstill.label.settings import LabelSettings
from whisperstill.label.shard_plan import ShardSpec
from whisperstill.label.shard_writer import ShardWriter
from whisperstill.label.store import Shard

MAX_SHARD_ATTEMPTS = 5
"""Workers that may die while labelling the same shard before the run fails."""


def label_with_ray(
    settings: LabelSettings, device: str, dtype: torch.dtype, shards: Sequence[ShardSpec]
) -> Iterator[Shard]:
    """Finished shards, in any order.

    Raises `MissingExtraError` without Ray, `StoreError` when `MAX_SHARD_ATTEMPTS` workers died on one shard, and
    whatever a worker raises.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("labelling with several workers", "ray") from error

    threads_per_worker = max(1, torch.get_num_threads() // settings.workers)
    is_local = settings.ray_address == "local"
    started_ray = not ray.is_initialized()
    if started_ray:
        ray.init(
            address=None if is_local else settings.ray_address,
            num_cpus=settings.workers * threads_per_worker if is_local else None,
            include_dashboard=False if is_local else None,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        worker_class: Any = ray.remote(ShardWriter).options(
            num_cpus=threads_per_worker, num_gpus=1 if device.startswith("cuda") else 0
        )
        worker_settings = replace(settings, output=settings.output.absolute())
        pool = _WorkerPool(ray, lambda: worker_class.remote(worker_settings, device, dtype), shards)
        yield from pool.run(settings.workers)
    finally:
        if started_ray:
            ray.shutdown()


class _WorkerPool:
    """Assigns shards to workers."""

    def __init__(self, ray: Any, start_worker: Callable[[], Any], shards: Sequence[ShardSpec]) -> None:
        self.ray, self.start_worker = ray, start_worker
        self.pending = list(shards)[::-1]
        self.attempts: dict[str, int] = {}
        self.running: dict[Any, tuple[Any, ShardSpec]] = {}

    def run(self, num_workers: int) -> Iterator[Shard]:
        """Label all shards. A worker that the cluster has no room for yet keeps its shard until it starts."""
        for _ in range(min(num_workers, len(self.pending))):
            self._assign(self.start_worker())
        while self.running:
            [ready], _ = self.ray.wait(list(self.running), num_returns=1)
            worker, shard = self.running.pop(ready)
            try:
                finished: Shard = self.ray.get(ready)
            except self.ray.exceptions.RayActorError as error:
                self._on_worker_died(shard, error)
                self._assign(self.start_worker())
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause or error from error
            else:
                yield finished
                self._assign(worker)

    def _assign(self, worker: Any) -> None:
        if self.pending:
            shard = self.pending.pop()
            self.running[worker.write_shard.remote(shard)] = (worker, shard)

    def _on_worker_died(self, shard: ShardSpec, error: Exception) -> None:
        self.attempts[shard.name] = self.attempts.get(shard.name, 0) + 1
        if self.attempts[shard.name] == MAX_SHARD_ATTEMPTS:
            raise StoreError(
                f"{MAX_SHARD_ATTEMPTS} workers died while labelling shard {shard.name} ({error}): they may need more "
                "memory, try --batch-size 4"
            ) from error
        self.pending.append(shard)
