"""Micro-batches: every window once per epoch, the same after a resume, on-policy windows apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.distill.batch_sampler import BatchSampler, MicroBatchSpec
from whisperstill.distill.dataset import TrainingExample
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings

SETTINGS = LoopSettings(Path(), Path(), Path(), num_train_epochs=3, batch_size=4)


def window_ids(step: list[MicroBatchSpec], on_policy: bool | None = None) -> list[str]:
    return [
        example.label.window.id for spec in step if on_policy in (None, spec.on_policy) for example in spec.examples
    ]


def test_every_epoch_has_every_window_once(examples: list[TrainingExample]) -> None:
    sampler = BatchSampler(examples, SETTINGS, 3, ProcessGroup())
    steps = list(sampler.steps(0))
    steps_per_epoch = -(-len(examples) // 4)
    assert len(steps) == sampler.total_steps == 3 * steps_per_epoch
    for epoch in range(3):
        epoch_steps = steps[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch]
        assert {spec.epoch for step in epoch_steps for spec in step} == {epoch}
        ids = [window_id for step in epoch_steps for window_id in window_ids(step)]
        assert sorted(ids) == sorted(example.label.window.id for example in examples)
    assert [len(spec.examples) for spec in steps[0]] == [3, 1]


def test_resume_continues_with_the_next_step(examples: list[TrainingExample]) -> None:
    sampler = BatchSampler(examples, SETTINGS, 4, ProcessGroup(), 0.5)
    assert list(sampler.steps(2)) == list(sampler.steps(0))[2:]


def test_max_steps_limits_the_run(examples: list[TrainingExample]) -> None:
    sampler = BatchSampler(examples, replace(SETTINGS, max_steps=2), 4, ProcessGroup())
    assert len(list(sampler.steps(0))) == sampler.total_steps == 2


def test_processes_share_the_windows_of_a_step(examples: list[TrainingExample]) -> None:
    alone = [sorted(window_ids(step)) for step in BatchSampler(examples, SETTINGS, 4, ProcessGroup()).steps(0)]
    first, second = (BatchSampler(examples, SETTINGS, 4, ProcessGroup(rank, 2)).steps(0) for rank in (0, 1))
    together = [sorted(window_ids(a) + window_ids(b)) for a, b in zip(first, second, strict=True)]
    assert together == alone


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_on_policy_windows_are_in_the_last_steps(examples: list[TrainingExample], fraction: float) -> None:
    sampler = BatchSampler(examples, SETTINGS, 4, ProcessGroup(), fraction)
    steps = list(sampler.steps(0))
    first = sampler.total_steps - round(fraction * sampler.total_steps)
    assert not any(window_ids(step, on_policy=True) for step in steps[:first])
    on_policy = sum(len(window_ids(step, on_policy=True)) for step in steps[first:])
    total = sum(len(window_ids(step)) for step in steps[first:])
    assert fraction == 0.0 or 0.2 < on_policy / total < 0.8


def test_windows_with_dropped_utterances_are_never_on_policy(examples: list[TrainingExample]) -> None:
    dropped = [replace(example, utterance_mask=(False, *example.utterance_mask[1:])) for example in examples]
    steps = BatchSampler(dropped, SETTINGS, 4, ProcessGroup(), 1.0).steps(0)
    assert not any(window_ids(step, on_policy=True) for step in steps)
