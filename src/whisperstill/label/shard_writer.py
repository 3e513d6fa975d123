"""Whoever labels shards: this process, or one of many workers. What a shard holds does not depend on who made it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whisperstill.label.shards import label_shard
from whisperstill.label.store import Shard, write_shard_files
from whisperstill.label.teacher import Teacher
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records import Window


@dataclass(frozen=True, slots=True)
class LabelJob:
    """All that a labeller has to know."""

    teacher: str
    device: str
    dtype: torch.dtype
    timestamps: bool
    use_references: bool
    batch_size: int
    top_k: int
    states_dtype: str
    max_new_tokens: int
    output: Path


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """A shard to be made."""

    name: str
    windows: Sequence[Window]
    windows_hash: str
    """Hash of the windows."""


class ShardWriter:
    """A teacher that writes shards."""

    def __init__(self, job: LabelJob) -> None:
        self.job = job
        self.teacher = Teacher(
            load_checkpoint(job.teacher),
            device=job.device,
            dtype=job.dtype,
            timestamps=job.timestamps,
            use_references=job.use_references,
        )

    def write_shard(self, shard: ShardSpec, on_progress: Callable[[float], None] = lambda seconds: None) -> Shard:
        """Make a shard and write its files; whoever keeps the manifest names them there."""
        job = self.job
        content = label_shard(
            self.teacher,
            shard.name,
            shard.windows,
            batch_size=job.batch_size,
            top_k=job.top_k,
            states_dtype=job.states_dtype,
            max_new_tokens=job.max_new_tokens,
            on_progress=on_progress,
        )
        files = write_shard_files(job.output, shard.name, dict(content.tables), content.tensors)
        return Shard(
            shard.name, content.num_windows, content.seconds / 3600, files, content.skipped, shard.windows_hash
        )
