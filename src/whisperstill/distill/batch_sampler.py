"""Which windows each process trains on in which step."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.dataset import TrainingExample, epoch_batches
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.records.seeding import rng

ON_POLICY_WINDOW_FRACTION = 0.5
"""Fraction of windows in an on-policy step that the student transcribes; the labels of the rest prevent drift."""


@dataclass(frozen=True, slots=True)
class MicroBatchSpec:
    """Windows of one forward and backward pass."""

    epoch: int
    examples: Sequence[TrainingExample]
    on_policy: bool
    """Whether the student transcribes them (see `on_policy`)."""


class BatchSampler:
    """Micro-batches of every step of this process."""

    def __init__(
        self,
        examples: Sequence[TrainingExample],
        settings: LoopSettings,
        micro_batch_size: int,
        process_group: ProcessGroup,
        on_policy_fraction: float = 0.0,
        augmentation_cache: AugmentationCache | None = None,
    ) -> None:
        """`on_policy_fraction`: fraction of the steps, the last ones, with on-policy micro-batches."""
        self._examples, self._settings, self._micro_batch_size = examples, settings, micro_batch_size
        self._process_group, self._augmentation_cache = process_group, augmentation_cache
        self.total_steps = math.ceil(len(examples) / settings.batch_size) * settings.num_train_epochs
        if settings.max_steps is not None:
            self.total_steps = min(self.total_steps, settings.max_steps)
        self._first_on_policy_step = self.total_steps - round(on_policy_fraction * self.total_steps)

    def steps(self, completed_steps: int) -> Iterator[list[MicroBatchSpec]]:
        """Micro-batches of each step after `completed_steps`."""
        for step, (epoch, batch) in enumerate(self._batches()):
            if step >= self.total_steps:
                return
            if step >= completed_steps:
                yield self._micro_batches(step, epoch, self._process_group.shard(batch))

    def _micro_batches(self, step: int, epoch: int, examples: Sequence[TrainingExample]) -> list[MicroBatchSpec]:
        """Labelled windows first, then those of on-policy distillation."""
        is_on_policy = [
            step >= self._first_on_policy_step and use_on_policy(example, self._settings.seed, step)
            for example in examples
        ]
        specs = []
        for on_policy in (False, True):
            group = [example for example, wanted in zip(examples, is_on_policy, strict=True) if wanted == on_policy]
            for start in range(0, len(group), self._micro_batch_size):
                specs.append(MicroBatchSpec(epoch, group[start : start + self._micro_batch_size], on_policy))
        return specs

    def _batches(self) -> Iterator[tuple[int, list[TrainingExample]]]:
        """(epoch, windows of all processes) of every step."""
        settings = self._settings
        if self._augmentation_cache is not None:
            yield from self._augmentation_cache.plan_batches(
                self._examples, settings.batch_size, settings.num_train_epochs
            )
            return
        for epoch in range(settings.num_train_epochs):
            for batch in epoch_batches(self._examples, settings.batch_size, settings.seed, epoch):
                yield epoch, batch


def use_on_policy(example: TrainingExample, seed: int, step: int) -> bool:
    """Whether the student transcribes this window in this on-policy step; never where the filter dropped a part."""
    return all(example.utterance_mask) and bool(
        rng(seed, step, example.label.window.id, "own words").random() < ON_POLICY_WINDOW_FRACTION
    )
