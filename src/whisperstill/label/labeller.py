"""Whoever labels shards: this process, or one of many workers. What a shard holds does not depend on who made it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whisperstill.label.shards import label_shard
from whisperstill.label.store import Shard, write_shard
from whisperstill.label.teacher import Teacher
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records import Window


@dataclass(frozen=True, slots=True)
class Work:
    """All that a labeller has to know."""

    teacher: str
    device: str
    dtype: torch.dtype
    timestamps: bool
    reads: bool
    batch_size: int
    top: int
    states: str
    max_new_tokens: int
    output: Path


@dataclass(frozen=True, slots=True)
class Planned:
    """A shard to be made."""

    name: str
    windows: Sequence[Window]
    plan: str
    """Hash of the windows."""


class Labeller:
    """A teacher that writes shards."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.teacher = Teacher(
            load_checkpoint(work.teacher),
            device=work.device,
            dtype=work.dtype,
            timestamps=work.timestamps,
            reads=work.reads,
        )

    def label(self, shard: Planned, advance: Callable[[float], None] = lambda seconds: None) -> Shard:
        """Make a shard and write its files; whoever keeps the manifest names them there."""
        work = self.work
        content = label_shard(
            self.teacher,
            shard.name,
            shard.windows,
            batch_size=work.batch_size,
            top=work.top,
            states=work.states,
            max_new_tokens=work.max_new_tokens,
            advance=advance,
        )
        files = write_shard(work.output, shard.name, dict(content.tables), content.tensors)
        return Shard(shard.name, content.windows, content.seconds / 3600, files, content.skipped, shard.plan)
