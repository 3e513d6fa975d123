"""Shards labelled by workers of a Ray cluster (extra `ray`), which may come late, die, and be replaced.

A shard is the unit of work: its files are written whole or not at all by whoever makes it, and the driver names it in
the manifest. A worker that dies takes one unfinished shard with it, which another one makes again. The output must lie
where all workers write: a shared disk.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from whisperstill.errors import MissingExtraError, StoreError
from whisperstill.label.labeller import Labeller, Planned, Work
from whisperstill.label.store import Shard

TRIES = 5
"""Workers that may die over one shard before it is the shard's fault."""


def label_with_ray(work: Work, shards: Sequence[Planned], workers: int, address: str, threads: int) -> Iterator[Shard]:
    """The shards as they are finished, in whatever order. `threads` are what a worker computes with on a CPU.

    Raises `MissingExtraError` without Ray, `StoreError` where a shard killed `TRIES` workers; what a worker raises of
    itself is raised here.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("labelling with several workers", "ray") from error

    local = address == "local"
    begun = not ray.is_initialized()
    if begun:
        ray.init(
            address=None if local else address,
            num_cpus=workers * threads if local else None,
            include_dashboard=False if local else None,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        needs: dict[str, Any] = {"num_cpus": threads, "num_gpus": 1 if work.device.startswith("cuda") else 0}
        yield from _Crew(ray, ray.remote(Labeller).options(**needs), work, list(shards), workers).shards()
    finally:
        if begun:
            ray.shutdown()


class _Crew:
    """Workers, and who does what."""

    def __init__(self, ray: Any, make: Any, work: Work, shards: list[Planned], workers: int) -> None:
        self.ray, self.make, self.work = ray, make, ray.put(work)
        self.waiting = shards[::-1]
        self.tries: dict[str, int] = {}
        self.busy: dict[Any, tuple[Any, Planned]] = {}
        for _ in range(min(workers, len(shards))):
            self._hire()

    def shards(self) -> Iterator[Shard]:
        """Give out work until there is none. A worker that the cluster has no room for yet waits with its shard."""
        while self.busy:
            [done], _ = self.ray.wait(list(self.busy), num_returns=1)
            worker, shard = self.busy.pop(done)
            try:
                finished: Shard = self.ray.get(done)
            except self.ray.exceptions.RayActorError as error:
                self._lost(shard, error)
                self._hire()
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause or error from error
            else:
                yield finished
                self._give(worker)

    def _hire(self) -> None:
        self._give(self.make.remote(self.work))

    def _give(self, worker: Any) -> None:
        if self.waiting:
            shard = self.waiting.pop()
            self.busy[worker.label.remote(shard)] = (worker, shard)

    def _lost(self, shard: Planned, error: Exception) -> None:
        self.tries[shard.name] = self.tries.get(shard.name, 0) + 1
        if self.tries[shard.name] == TRIES:
            raise StoreError(
                f"{TRIES} workers died over shard {shard.name} ({error}): they may need more memory, try --batch-size 4"
            ) from error
        self.waiting.append(shard)
