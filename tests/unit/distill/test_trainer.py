"""The training loop with a task that needs no batches: steps, checkpoints, trackers, stopping and resuming."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.distill import trainer as module
from whisperstill.distill.batch import WindowBatch
from whisperstill.distill.batch_sampler import BatchSampler, MicroBatchSpec
from whisperstill.distill.dataset import TrainingExample, epoch_batches
from whisperstill.distill.metrics import read_metrics
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.trainer import Trainer, TrainResult
from whisperstill.errors import StoreError, TrainingError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records.loss_sums import LossSums


class QuadraticTask:
    """Pulls the decoder's positions towards 1; every window counts as encoded."""

    runs_encoder = False

    def __init__(self, student: Whisper, nan_at_call: int = 0) -> None:
        self._student, self._nan_at_call, self.calls = student, nan_at_call, 0

    def read(self, spec: MicroBatchSpec) -> WindowBatch:
        return WindowBatch(spec.examples, len(spec.examples), 0)

    def accumulate_gradients(self, micro_batches: Sequence[WindowBatch]) -> tuple[LossSums, float]:
        self.calls += 1
        loss = (self._student.decoder.positions - 1).square().mean()
        loss.backward()
        return LossSums(loss_tokens=1), float("nan") if self.calls == self._nan_at_call else float(loss.detach())


@pytest.fixture
def settings(tmp_path: Path) -> LoopSettings:
    return LoopSettings(
        Path(), Path(), tmp_path / "run", num_train_epochs=2, batch_size=4, save_steps=2, logging_steps=1, ema_decay=0.5
    )


def make_trainer(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample], nan_at_call: int = 0
) -> Trainer[WindowBatch]:
    network = Whisper.from_state(student.dims, student.state)
    network.requires_grad_(False)
    network.decoder.positions.requires_grad_(True)
    sampler = BatchSampler(examples, settings, 4, ProcessGroup())
    identity = {"learning_rate": settings.learning_rate}
    return Trainer(network, QuadraticTask(network, nan_at_call), sampler, settings, identity, None, ProcessGroup())


def run(trainer: Trainer[WindowBatch], stop_after: int = 1000) -> TrainResult:
    steps = iter(range(1, 1000))
    return trainer.run(lambda: next(steps) >= stop_after, lambda count, fields: None, lambda message: None)


def test_loss_falls_and_every_step_is_logged(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample]
) -> None:
    trainer = make_trainer(settings, student, examples)
    result = run(trainer)
    lines = read_metrics(settings.output / "metrics.jsonl")
    assert result.finished and [line["step"] for line in lines] == list(range(1, trainer.total_steps + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    first_batch = epoch_batches(examples, 4, settings.seed, 0)[0]
    seconds = sum(example.label.window.duration for example in first_batch)
    assert lines[0]["windows"] == 4 and lines[0]["padding_fraction"] == pytest.approx(1 - seconds / 120)
    assert result.train_state.windows_encoded == 2 * len(examples)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_stopped_and_resumed_run_ends_with_the_same_bits(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample], stop_after: int
) -> None:
    undisturbed = make_trainer(settings, student, examples)
    expected = run(undisturbed)
    parts = replace(settings, output=settings.output.with_name("parts"))
    assert not run(make_trainer(parts, student, examples), stop_after).finished
    resumed = make_trainer(parts, student, examples)
    result = run(resumed)
    assert result.resumed_from == stop_after and result.train_state == expected.train_state
    torch.testing.assert_close(resumed.student.decoder.positions, undisturbed.student.decoder.positions, rtol=0, atol=0)
    with resumed.eval_weights(), undisturbed.eval_weights():
        torch.testing.assert_close(
            resumed.student.decoder.positions, undisturbed.student.decoder.positions, rtol=0, atol=0
        )
    metrics = [(path / "metrics.jsonl").read_text() for path in (parts.output, settings.output)]
    assert metrics[0] == metrics[1]


def test_loss_that_is_not_finite_leaves_the_last_checkpoint(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample]
) -> None:
    with pytest.raises(TrainingError, match="at step 4, batch"):
        run(make_trainer(settings, student, examples, nan_at_call=4))
    assert run(make_trainer(settings, student, examples)).resumed_from == 2


def test_run_with_another_identity_is_not_resumed(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample]
) -> None:
    run(make_trainer(settings, student, examples))
    with pytest.raises(StoreError, match=r"learning_rate was 0\.0003, is 0\.01"):
        run(make_trainer(replace(settings, learning_rate=0.01), student, examples))


def test_trackers_receive_every_logged_step(
    settings: LoopSettings, student: Checkpoint, examples: list[TrainingExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []

    class RecordingTracker:
        def __init__(self, output: Path, resume_step: int) -> None:
            events.append((output, resume_step))

        def log(self, step: int, values: Mapping[str, float]) -> None:
            events.append(step)

        def close(self) -> None:
            events.append("closed")

    monkeypatch.setattr(module, "TRACKERS", (RecordingTracker,))
    trainer = make_trainer(settings, student, examples)
    run(trainer)
    assert events == [(settings.output, 0), *range(1, trainer.total_steps + 1), "closed"]
