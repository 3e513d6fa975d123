"""The training loop. A run that is killed and resumed ends with the same weights, bit for bit."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch

from whisperstill.distill.batch import WindowBatch
from whisperstill.distill.batch_sampler import BatchSampler, MicroBatchSpec
from whisperstill.distill.memory_budget import HeapTrimmer
from whisperstill.distill.metrics import JsonLinesTracker, Tracker
from whisperstill.distill.optimizer import EMA, build_optimizer, learning_rate_factor
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.tensorboard import TensorBoardTracker
from whisperstill.distill.training_checkpoint import Checkpoints, TrainState, trainable_parameters
from whisperstill.distill.validation import Validation
from whisperstill.errors import TrainingError
from whisperstill.model.whisper import Whisper
from whisperstill.plugins import PluginGroup
from whisperstill.records.json_value import JsonValue
from whisperstill.records.loss_sums import LossSums
from whisperstill.records.seeding import rng
from whisperstill.units import WINDOW_SECONDS

TrackerFactory: TypeAlias = Callable[[Path, int], Tracker]
TRACKERS: tuple[TrackerFactory, ...] = (JsonLinesTracker, TensorBoardTracker)
"""Called with the output directory and the step the run resumes from; other packages register more (`plugins`)."""

BatchT = TypeVar("BatchT", bound=WindowBatch)


@runtime_checkable
class TrainingTask(Protocol[BatchT]):
    """What is trained on what: how batches are read and which gradients they give."""

    runs_encoder: bool
    """Whether `read` may run an encoder."""

    def read(self, spec: MicroBatchSpec) -> BatchT:
        """The planned batch, on the CPU. Called in a reader thread."""
        ...

    def accumulate_gradients(self, micro_batches: Sequence[BatchT]) -> tuple[LossSums, float]:
        """Add the gradients of a step to the student's; returns the sums and the loss of this process."""
        ...


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    finished: bool
    """False if it was asked to stop; it can be resumed."""
    train_state: TrainState
    resumed_from: int
    """Steps of earlier runs."""
    seconds: float


class Trainer(Generic[BatchT]):
    """Trains the parameters of a student that require gradients."""

    def __init__(
        self,
        student: Whisper,
        task: TrainingTask[BatchT],
        sampler: BatchSampler,
        settings: LoopSettings,
        identity: Mapping[str, JsonValue],
        validation: Validation | None,
        process_group: ProcessGroup,
    ) -> None:
        """`identity`: what decides the weights; a run with another identity is not resumed."""
        self.student, self.validation, self.total_steps = student, validation, sampler.total_steps
        self._task, self._sampler, self._settings = task, sampler, settings
        self._identity, self._process_group = dict(identity), process_group
        self._weights = list(trainable_parameters(student).values())
        self._optimizer = build_optimizer(student, settings, process_group)
        self._ema = EMA(student, settings.ema_decay)
        self.checkpoints = Checkpoints(settings.output, student, self._optimizer, self._ema.weights, process_group)
        self._trackers: list[Tracker] = []

    def run(
        self,
        stop: Callable[[], bool],
        advance: Callable[[int, dict[str, str]], None],
        log_message: Callable[[str], None],
        on_resume: Callable[[int], None] = lambda steps: None,
    ) -> TrainResult:
        """Train to the end, or until `stop()`, then write a checkpoint.

        `advance` receives 1 and the metrics for display after each step, `on_resume` the steps of earlier runs. Raises
        `TrainingError` if the loss is not finite; the last checkpoint is then still good.
        """
        start_time = time.monotonic()
        # 1. Resume from the newest checkpoint.
        train_state = self.restore() or TrainState(identity=self._identity)
        resumed_from, settings = train_state.step, self._settings
        on_resume(resumed_from)
        if self._process_group.is_main:
            trackers = (*TRACKERS, *PluginGroup[TrackerFactory]("trackers").load().values())
            self._trackers = [tracker(settings.output, resumed_from) for tracker in trackers]
        self.student.train()
        heap_trimmer = HeapTrimmer(0.25 / self._process_group.world_size)
        stopped = False
        for micro_batches in self._load_steps(train_state.step):
            # 2. One optimizer step.
            metrics = self._step(train_state, micro_batches)
            is_last = train_state.step == self.total_steps
            if train_state.step % settings.logging_steps == 0 or is_last:
                self._log(train_state.step, metrics)
            advance(1, {name: f"{metrics[name]:.3f}" for name in ("loss", "token_accuracy")})
            # 3. Validation.
            eval_due = settings.eval_steps and train_state.step % settings.eval_steps == 0
            if self.validation is not None and (eval_due or is_last):
                log_message(self._validate(self.validation, train_state))
            # 4. Checkpoint. All processes stop together.
            stopped = self._process_group.all_reduce_sum(stop())[0] > 0 and not is_last
            if train_state.step % settings.save_steps == 0 or is_last or stopped:
                self.checkpoints.save(train_state)
            if stopped:
                break
            heap_trimmer.trim()
        for tracker in self._trackers:
            tracker.close()
        self.student.eval()
        return TrainResult(not stopped, train_state, resumed_from, time.monotonic() - start_time)

    def restore(self) -> TrainState | None:
        """Load the newest checkpoint; None if there is none."""
        return self.checkpoints.restore(self._identity)

    def eval_weights(self) -> AbstractContextManager[None]:
        """Within this context the student has the weights to validate and save: the average, if there is one."""
        return self._ema.applied()

    def _log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def _step(self, train_state: TrainState, micro_batches: Sequence[BatchT]) -> dict[str, float]:
        """One optimizer step, counted in `train_state`; returns its metrics."""
        settings = self._settings
        # 1. Learning rate, and the seed of dropout.
        factor = learning_rate_factor(train_state.step, self.total_steps, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        torch.manual_seed(
            int(rng(settings.seed, train_state.step, "dropout", self._process_group.rank).integers(2**62))
        )
        # 2. Gradients.
        self.student.zero_grad(set_to_none=True)
        local_sums, local_loss = self._task.accumulate_gradients(micro_batches)
        self._process_group.all_reduce_gradients(self._weights)
        loss, *sum_values = self._process_group.all_reduce_sum(local_loss, *local_sums)
        sums = LossSums.from_values(sum_values)
        gradient_norm = float(torch.nn.utils.clip_grad_norm_(self._weights, settings.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            windows = " ".join(example.label.window.id for batch in micro_batches for example in batch.examples)
            raise TrainingError(
                f"loss {loss} with gradient norm {gradient_norm} at step {train_state.step + 1}, batch {windows}: "
                "lower --learning-rate (and use another --output, since a run keeps its settings) or check that audio"
            )
        # 3. Weights: each process updates its own share and receives the others.
        self._optimizer.step()
        self._process_group.broadcast(self._weights)
        train_state.step += 1
        self._ema.update(train_state.step)
        return {
            "loss": loss,
            **sums.means(),
            "learning_rate": settings.learning_rate * factor,
            "gradient_norm": gradient_norm,
            "tokens": float(sums.loss_tokens),
            **self._count_windows(train_state, micro_batches),
        }

    def _count_windows(self, train_state: TrainState, micro_batches: Sequence[BatchT]) -> dict[str, float]:
        """Windows, decoder input tokens and fraction of padding of a step; encoded windows go to `train_state`."""
        windows, tokens, seconds, encoded = self._process_group.all_reduce_sum(
            sum(len(batch.examples) for batch in micro_batches),
            sum(batch.decoder_tokens for batch in micro_batches),
            sum(batch.audio_seconds for batch in micro_batches),
            sum(batch.windows_encoded for batch in micro_batches),
        )
        train_state.windows_encoded += int(encoded)
        return {
            "windows": windows,
            "decoder_tokens": tokens,
            "padding_fraction": 1 - seconds / (windows * WINDOW_SECONDS),
        }

    def _validate(self, validation: Validation, train_state: TrainState) -> str:
        """Validate, save the weights if they are the best so far; returns a line for the console."""
        with self.eval_weights():
            wer = 100 * validation.compute_edits().error_rate
            is_best = train_state.best_wer is None or wer < train_state.best_wer
            if is_best:
                train_state.best_wer, train_state.best_step = wer, train_state.step
                self.checkpoints.save_best(train_state.step)
        self._log(train_state.step, {"validation_wer": wer})
        return f"step {train_state.step}: validation WER {wer:.2f} %{' (best so far)' if is_best else ''}"

    def _load_steps(self, completed_steps: int) -> Iterator[list[BatchT]]:
        """Micro-batches of each remaining step, read one step ahead.

        They are not read ahead where an encoder on the CPU would compete with the step for its threads.
        """

        def read(specs: Sequence[MicroBatchSpec]) -> list[BatchT]:
            return [self._task.read(spec) for spec in specs]

        if self._task.runs_encoder and self.student.device.type == "cpu":
            yield from map(read, self._sampler.steps(completed_steps))
            return
        with ThreadPoolExecutor(1) as executor:
            pending = None
            for specs in self._sampler.steps(completed_steps):
                next_step = executor.submit(read, specs)
                if pending is not None:
                    yield pending.result()
                pending = next_step
            if pending is not None:
                yield pending.result()
