"""Labelling by workers of a Ray cluster (extra `ray`); workers may join late, die, and are replaced.

The unit of work is a shard: a worker writes its files atomically, and the driver records it in the manifest. When a
worker dies, its unfinished shard is labelled again by another. All workers must write to a shared disk.
"""

from collections import Counter
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
        yield from _run_workers(
            ray, lambda: worker_class.remote(worker_settings, device, dtype), settings.workers, shards
        )
    finally:
        if started_ray:
            ray.shutdown()


def _run_workers(
    ray: Any, start_worker: Callable[[], Any], num_workers: int, shards: Sequence[ShardSpec]
) -> Iterator[Shard]:
    """Label all shards. A worker that the cluster has no room for yet keeps its shard until it starts."""
    pending = list(shards)[::-1]
    deaths: Counter[str] = Counter()
    idle_workers = [start_worker() for _ in range(min(num_workers, len(pending)))]
    running: dict[Any, tuple[Any, ShardSpec]] = {}
    while idle_workers or running:
        # 1. Every worker gets a shard.
        for worker in idle_workers[: len(pending)]:
            shard = pending.pop()
            running[worker.write_shard.remote(shard)] = (worker, shard)
        if not running:
            return
        # 2. Wait for one; the shard of a worker that died goes to a new worker.
        [ready], _ = ray.wait(list(running), num_returns=1)
        worker, shard = running.pop(ready)
        try:
            finished: Shard = ray.get(ready)
        except ray.exceptions.RayActorError as error:
            deaths[shard.name] += 1
            if deaths[shard.name] == MAX_SHARD_ATTEMPTS:
                raise StoreError(
                    f"{MAX_SHARD_ATTEMPTS} workers died while labelling shard {shard.name} ({error}): they may need "
                    "more memory, try --batch-size 4"
                ) from error
            pending.append(shard)
            worker = start_worker()
        except ray.exceptions.RayTaskError as error:
            raise error.cause or error from error
        else:
            yield finished
        idle_workers = [worker]
