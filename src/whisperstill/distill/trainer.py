"""The training loop. A run that is killed and resumed ends with the same weights, to the last bit."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.data_loader import TrainBatch
from whisperstill.distill.dataset import TrainingExample, epoch_batches
from whisperstill.distill.ema import EMA
from whisperstill.distill.lr_schedule import LrSchedulerType, learning_rate_factor
from whisperstill.distill.memory_budget import HeapTrimmer
from whisperstill.distill.metrics import MetricsLogger
from whisperstill.distill.on_policy import use_on_policy
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.tensorboard import TensorBoardLogger
from whisperstill.distill.training_checkpoint import Checkpoints, TrainState, trainable_parameters
from whisperstill.distill.validation import Validation
from whisperstill.errors import TrainingError
from whisperstill.model.whisper import Whisper
from whisperstill.records.loss_sums import LossSums
from whisperstill.records.seeding import rng
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True)
class TrainerSettings:
    """What the loop needs to know. See `stages.train_settings.TrainingSettings` for what each means."""

    num_train_epochs: int
    batch_size: int
    micro_batch_size: int
    learning_rate: float
    warmup_steps: int
    lr_scheduler_type: LrSchedulerType
    adam_betas: tuple[float, float]
    adam_epsilon: float
    weight_decay: float
    max_grad_norm: float
    dropout: float
    ema_decay: float
    seed: int
    eval_steps: int
    save_steps: int
    logging_steps: int
    max_steps: int | None
    on_policy_fraction: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    finished: bool
    """False when it was asked to stop; it can be resumed."""
    train_state: TrainState
    resumed_from: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _MicroBatchSpec:
    """A micro-batch to be read."""

    examples: Sequence[TrainingExample]
    on_policy: bool


@runtime_checkable
class BatchLoader(Protocol):
    """Where batches come from."""

    augmentation_cache: AugmentationCache | None
    windows_encoded: int

    @property
    def runs_encoder(self) -> bool:
        """Whether an encoder may be asked for a batch."""
        ...

    def load(self, examples: Sequence[TrainingExample], epoch: int, on_policy: bool = False) -> TrainBatch:
        """A batch for these examples as this epoch sees them; `on_policy`: for the student to say itself."""
        ...


GradientFunction = Callable[[Sequence[Any]], tuple[LossSums, float]]
"""Adds the gradients of a step's micro-batches to the student's; gives the sums and the loss, over all processes."""


class Trainer:
    """Trains what of a student asks for gradients, on examples."""

    def __init__(
        self,
        student: Whisper,
        compute_gradients: GradientFunction,
        data_loader: BatchLoader,
        examples: Sequence[TrainingExample],
        settings: TrainerSettings,
        output: Path,
        identity: dict[str, Any],
        validation: Validation | None,
        process_group: ProcessGroup,
    ) -> None:
        self.student, self.compute_gradients, self.data_loader, self.examples = (
            student,
            compute_gradients,
            data_loader,
            examples,
        )
        self.settings, self.output, self.identity, self.validation = settings, output, identity, validation
        self.process_group = process_group
        self.checkpoints = Checkpoints(output, process_group)
        student.decoder.dropout = settings.dropout
        self.weights = list(trainable_parameters(student).values())
        self.optimizer = torch.optim.AdamW(
            [{"params": [weight for index, weight in enumerate(self.weights) if process_group.owns(index)]}],  # or none
            lr=settings.learning_rate,
            betas=settings.adam_betas,
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = EMA(student, settings.ema_decay) if settings.ema_decay else None
        self.steps_per_epoch = math.ceil(len(examples) / settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.num_train_epochs
        if settings.max_steps is not None:
            self.total_steps = min(self.total_steps, settings.max_steps)

    def run(
        self,
        stop: Callable[[], bool],
        advance: Callable[[int, dict[str, str]], None],
        log_message: Callable[[str], None],
        on_resume: Callable[[int], None] = lambda steps: None,
    ) -> TrainResult:
        """Train to the end, or until `stop()`, then checkpoint. `on_resume` is told the steps that an earlier run took.

        Raises `TrainingError` when the loss is no longer finite; the last checkpoint is then still good.
        """
        start_time = time.monotonic()
        train_state = self.restore() or TrainState(identity=self.identity)
        resumed_from = train_state.step
        metrics = MetricsLogger(self.output / "metrics.jsonl", train_state.step, self.process_group.is_main)
        tensorboard = TensorBoardLogger(self.output / "tensorboard", train_state.step, self.process_group.is_main)
        on_resume(train_state.step)
        encoded_before = train_state.windows_encoded - self.data_loader.windows_encoded
        self.student.train()
        heap_trimmer = HeapTrimmer(0.25 / self.process_group.world_size)
        stopped = False
        for micro_batches in self._load_steps(train_state.step):
            step_metrics = self._step(train_state, micro_batches)
            train_state.windows_encoded = encoded_before + int(step_metrics.pop("windows_encoded"))
            is_last = train_state.step == self.total_steps
            if train_state.step % self.settings.logging_steps == 0 or is_last:
                metrics.log(step=train_state.step, **step_metrics)
                tensorboard.log(train_state.step, step_metrics)
            advance(1, {name: f"{step_metrics[name]:.3f}" for name in ("loss", "token_accuracy")})
            eval_due = self.settings.eval_steps and train_state.step % self.settings.eval_steps == 0
            if self.validation is not None and (eval_due or is_last):
                self._validate(train_state, metrics, tensorboard, log_message)
            stopped = self.process_group.all_reduce_sum(stop())[0] > 0 and not is_last
            if train_state.step % self.settings.save_steps == 0 or is_last or stopped:
                self.checkpoints.save(self.student, self.optimizer, self._ema_weights(), train_state)
            if stopped:
                break
            heap_trimmer.trim()
        tensorboard.close()
        self.student.eval()
        return TrainResult(not stopped, train_state, resumed_from, time.monotonic() - start_time)

    def restore(self) -> TrainState | None:
        """Go back to the newest checkpoint; None when there is none."""
        return self.checkpoints.restore(self.student, self.optimizer, self._ema_weights(), self.identity)

    def eval_weights(self) -> AbstractContextManager[None]:
        """Within, the student has the weights that a listener would get now: the average's where there is one."""
        return self.ema.applied() if self.ema else nullcontext()

    def _ema_weights(self) -> dict[str, Tensor]:
        return self.ema.weights if self.ema else {}

    def _step(self, train_state: TrainState, micro_batches: Sequence[TrainBatch]) -> dict[str, float]:
        settings = self.settings
        factor = learning_rate_factor(
            train_state.step,
            warmup_steps=settings.warmup_steps,
            total_steps=self.total_steps,
            lr_scheduler_type=settings.lr_scheduler_type,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        torch.manual_seed(int(rng(settings.seed, train_state.step, "dropout", self.process_group.rank).integers(2**62)))
        self.student.zero_grad(set_to_none=True)
        sums, loss = self.compute_gradients(micro_batches)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, settings.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            windows = [window for micro_batch in micro_batches for window in micro_batch.batch.window_ids]
            raise TrainingError(
                f"loss {loss} with gradient norm {norm} at step {train_state.step + 1}, batch {' '.join(windows)}: "
                "lower --learning-rate (with another --output: a run keeps its settings) or look at that audio"
            )
        self.optimizer.step()
        self.process_group.broadcast(self.weights)
        train_state.step += 1
        if self.ema:
            self.ema.update(train_state.step)
        return {
            "loss": loss,
            **sums.means(),
            "learning_rate": settings.learning_rate * factor,
            "gradient_norm": norm,
            "tokens": float(sums.loss_tokens),
            **self._batch_metrics(micro_batches),
        }

    def _batch_metrics(self, micro_batches: Sequence[TrainBatch]) -> dict[str, float]:
        """Windows of a step, decoder tokens read, the share of the encoder's positions that holds no audio, and the
        windows that the encoder has read in this run."""
        token_batches = [micro_batch.batch for micro_batch in micro_batches]
        windows, tokens, seconds, windows_encoded = self.process_group.all_reduce_sum(
            sum(len(batch.window_ids) for batch in token_batches),
            sum(sum(batch.lengths) for batch in token_batches),
            sum(micro_batch.audio_seconds for micro_batch in micro_batches),
            self.data_loader.windows_encoded,
        )
        padding_fraction = 1 - seconds / (windows * WINDOW_SECONDS)
        return {
            "windows": windows,
            "decoder_tokens": tokens,
            "padding_fraction": padding_fraction,
            "windows_encoded": windows_encoded,
        }

    def _validate(
        self,
        train_state: TrainState,
        metrics: MetricsLogger,
        tensorboard: TensorBoardLogger,
        log_message: Callable[[str], None],
    ) -> None:
        assert self.validation is not None
        with self.eval_weights():
            wer = 100 * self.validation.compute_edits().error_rate
            is_best = train_state.best_wer is None or wer < train_state.best_wer
            if is_best:
                train_state.best_wer, train_state.best_step = wer, train_state.step
                self.checkpoints.save_best(self.student, train_state.step)
        metrics.log(step=train_state.step, validation_wer=wer)
        tensorboard.log(train_state.step, {"validation_wer": wer})
        log_message(f"step {train_state.step}: validation WER {wer:.2f} %{' (best so far)' if is_best else ''}")

    def _load_steps(self, completed_steps: int) -> Iterator[list[TrainBatch]]:
        """Micro-batches of each step still to do, read one step ahead; one by one where an encoder on the CPU would
        fight with the step for its threads."""

        def load(epoch: int, specs: Sequence[_MicroBatchSpec]) -> list[TrainBatch]:
            return [self.data_loader.load(spec.examples, epoch, spec.on_policy) for spec in specs]

        if self.data_loader.runs_encoder and self.student.device.type == "cpu":
            for epoch, specs in self._plan_micro_batches(completed_steps):
                yield load(epoch, specs)
            return
        with ThreadPoolExecutor(1) as executor:
            pending = None
            for epoch, specs in self._plan_micro_batches(completed_steps):
                next_step = executor.submit(load, epoch, specs)
                if pending is not None:
                    yield pending.result()
                pending = next_step
            if pending is not None:
                yield pending.result()

    def _plan_micro_batches(self, completed_steps: int) -> Iterator[tuple[int, list[_MicroBatchSpec]]]:
        """The micro-batches of this process, step by step."""
        settings = self.settings
        micro_batch_size, on_policy_from_step = (
            settings.micro_batch_size,
            self.total_steps - round(settings.on_policy_fraction * self.total_steps),
        )
        for step, (epoch, batch) in enumerate(self._batches()):
            if step >= self.total_steps:
                return
            if step < completed_steps:
                continue
            local_examples = self.process_group.shard(batch)
            on_policy_examples = [
                example
                for example in local_examples
                if step >= on_policy_from_step and use_on_policy(example, settings.seed, step)
            ]
            labeled_examples = [example for example in local_examples if example not in on_policy_examples]
            yield (
                epoch,
                [
                    _MicroBatchSpec(group[start : start + micro_batch_size], group is on_policy_examples)
                    for group in (labeled_examples, on_policy_examples)
                    for start in range(0, len(group), micro_batch_size)
                ],
            )

    def _batches(self) -> Iterator[tuple[int, list[TrainingExample]]]:
        settings = self.settings
        if self.data_loader.augmentation_cache is not None:
            yield from self.data_loader.augmentation_cache.plan_batches(
                self.examples, settings.batch_size, settings.num_train_epochs
            )
            return
        for epoch in range(settings.num_train_epochs):
            for batch in epoch_batches(self.examples, settings.batch_size, settings.seed, epoch):
                yield epoch, batch
