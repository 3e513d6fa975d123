"""Shards labelled by workers of a Ray cluster (extra `ray`), which may come late, die, and be replaced.

A shard is the unit of work: its files are written whole or not at all by whoever makes it, and the driver names it in
the manifest. A worker that dies takes one unfinished shard with it, which another one makes again. The output must lie
where all workers write: a shared disk.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from whisperstill.errors import MissingExtraError, StoreError
from whisperstill.label.shard_writer import LabelJob, ShardSpec, ShardWriter
from whisperstill.label.store import Shard

MAX_SHARD_ATTEMPTS = 5
"""Workers that may die over one shard before it is the shard's fault."""


def label_with_ray(
    job: LabelJob, shards: Sequence[ShardSpec], num_workers: int, address: str, threads_per_worker: int
) -> Iterator[Shard]:
    """The shards as they are finished, in whatever order. `threads_per_worker`: what a worker computes with on a CPU.

    Raises `MissingExtraError` without Ray, `StoreError` where a shard killed `MAX_SHARD_ATTEMPTS` workers; what a
    worker raises of itself is raised here.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("labelling with several workers", "ray") from error

    is_local = address == "local"
    started_ray = not ray.is_initialized()
    if started_ray:
        ray.init(
            address=None if is_local else address,
            num_cpus=num_workers * threads_per_worker if is_local else None,
            include_dashboard=False if is_local else None,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        worker_resources: dict[str, Any] = {
            "num_cpus": threads_per_worker,
            "num_gpus": 1 if job.device.startswith("cuda") else 0,
        }
        yield from _WorkerPool(
            ray, ray.remote(ShardWriter).options(**worker_resources), job, list(shards), num_workers
        ).finished_shards()
    finally:
        if started_ray:
            ray.shutdown()


class _WorkerPool:
    """Workers, and who does what."""

    def __init__(self, ray: Any, worker_factory: Any, job: LabelJob, shards: list[ShardSpec], num_workers: int) -> None:
        self.ray, self.worker_factory, self.job = ray, worker_factory, ray.put(job)
        self.pending = shards[::-1]
        self.attempts: dict[str, int] = {}
        self.running: dict[Any, tuple[Any, ShardSpec]] = {}
        for _ in range(min(num_workers, len(shards))):
            self._start_worker()

    def finished_shards(self) -> Iterator[Shard]:
        """Give out work until there is none. A worker that the cluster has no room for yet waits with its shard."""
        while self.running:
            [ready], _ = self.ray.wait(list(self.running), num_returns=1)
            worker, shard = self.running.pop(ready)
            try:
                finished: Shard = self.ray.get(ready)
            except self.ray.exceptions.RayActorError as error:
                self._on_worker_died(shard, error)
                self._start_worker()
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause or error from error
            else:
                yield finished
                self._assign(worker)

    def _start_worker(self) -> None:
        self._assign(self.worker_factory.remote(self.job))

    def _assign(self, worker: Any) -> None:
        if self.pending:
            shard = self.pending.pop()
            self.running[worker.write_shard.remote(shard)] = (worker, shard)

    def _on_worker_died(self, shard: ShardSpec, error: Exception) -> None:
        self.attempts[shard.name] = self.attempts.get(shard.name, 0) + 1
        if self.attempts[shard.name] == MAX_SHARD_ATTEMPTS:
            raise StoreError(
                f"{MAX_SHARD_ATTEMPTS} workers died over shard {shard.name} ({error}): they may need more memory, "
                "try --batch-size 4"
            ) from error
        self.pending.append(shard)
