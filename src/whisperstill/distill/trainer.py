"""The training loop. A run that is killed and resumed ends with the same weights, to the last bit."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whisperstill.distill.checkpointing import Checkpoints, Progress, trained
from whisperstill.distill.examples import Example, batches
from whisperstill.distill.metrics import Metrics
from whisperstill.distill.objective import Weights
from whisperstill.distill.schedule import Shape, learning_rate_factor
from whisperstill.distill.source import BatchSource, Loaded, TeacherDecoder
from whisperstill.distill.step import accumulate
from whisperstill.distill.tensorboard import Board
from whisperstill.distill.validation import Validation
from whisperstill.errors import TrainingError
from whisperstill.model.whisper import Whisper
from whisperstill.records.random import rng


@dataclass(frozen=True)
class TrainerSettings:
    """What the loop needs to know. See `stages.train.TrainSettings` for what each means."""

    epochs: int
    batch_size: int
    accumulation: int
    learning_rate: float
    warmup_steps: int
    schedule: Shape
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    clip: float
    weights: Weights
    alpha_hidden: float
    dropout: float
    seed: int
    dtype: torch.dtype
    eval_every: int
    checkpoint_every: int
    log_every: int
    max_steps: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    finished: bool
    """False when it was asked to stop; it can be resumed."""
    progress: Progress
    resumed_from: int
    seconds: float


class Trainer:
    """Trains a student's decoder on examples."""

    def __init__(
        self,
        student: Whisper,
        teacher: TeacherDecoder,
        source: BatchSource,
        found: Sequence[Example],
        settings: TrainerSettings,
        output: Path,
        identity: dict[str, Any],
        validation: Validation | None,
    ) -> None:
        self.student, self.teacher, self.source, self.examples = student, teacher, source, found
        self.settings, self.output, self.identity, self.validation = settings, output, identity, validation
        self.checkpoints = Checkpoints(output)
        student.decoder.dropout = settings.dropout
        self.optimiser = torch.optim.AdamW(
            trained(student).values(),
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        per_step = settings.batch_size * settings.accumulation
        self.steps_per_epoch = math.ceil(len(found) / per_step)
        self.total_steps = self.steps_per_epoch * settings.epochs
        if settings.max_steps is not None:
            self.total_steps = min(self.total_steps, settings.max_steps)

    def run(
        self,
        stop: Callable[[], bool],
        advance: Callable[[int, dict[str, str]], None],
        say: Callable[[str], None],
    ) -> Outcome:
        """Train to the end, or until `stop()`, then checkpoint.

        Raises `TrainingError` when the loss is no longer finite; the last checkpoint is then still good.
        """
        begun = time.monotonic()
        restored = self.checkpoints.restore(self.student, self.optimiser, self.identity)
        progress = restored or Progress(identity=self.identity)
        resumed_from = progress.step
        metrics = Metrics(self.output / "metrics.jsonl", progress.step)
        board = Board(self.output / "tensorboard", progress.step)
        advance(progress.step, {})
        encoded_before = progress.windows_encoded - self.source.windows_encoded
        self.student.train()
        stopped = False
        for micro_batches in self._steps(progress.step):
            figures = self._step(progress, micro_batches)
            progress.windows_encoded = encoded_before + self.source.windows_encoded
            last = progress.step == self.total_steps
            if progress.step % self.settings.log_every == 0 or last:
                metrics.add(step=progress.step, **figures)
                board.add(progress.step, figures)
            advance(1, {"loss": f"{figures['loss']:.3f}", "agreement": f"{figures['agreement']:.3f}"})
            due = self.settings.eval_every and progress.step % self.settings.eval_every == 0
            if self.validation is not None and (due or last):
                self._validate(progress, metrics, board, say)
            stopped = stop() and not last
            if progress.step % self.settings.checkpoint_every == 0 or last or stopped:
                self.checkpoints.save(self.student, self.optimiser, progress)
            if stopped:
                break
        board.close()
        self.student.eval()
        return Outcome(not stopped, progress, resumed_from, time.monotonic() - begun)

    def _step(self, progress: Progress, micro_batches: Sequence[Loaded]) -> dict[str, float]:
        settings = self.settings
        factor = learning_rate_factor(
            progress.step, warmup=settings.warmup_steps, total=self.total_steps, shape=settings.schedule
        )
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        torch.manual_seed(int(rng(settings.seed, progress.step, "dropout").integers(2**62)))
        self.optimiser.zero_grad(set_to_none=True)
        sums, loss = accumulate(
            self.student, self.teacher, micro_batches, settings.weights, settings.alpha_hidden, settings.dtype
        )
        norm = float(torch.nn.utils.clip_grad_norm_(trained(self.student).values(), settings.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            windows = [window for loaded in micro_batches for window in loaded.batch.windows]
            raise TrainingError(
                f"loss {loss} with gradient norm {norm} at step {progress.step + 1}, batch {' '.join(windows)}: lower "
                "--learning-rate or look at that audio; the last checkpoint is intact"
            )
        self.optimiser.step()
        progress.step += 1
        return {
            "loss": loss,
            **sums.means(),
            "learning_rate": settings.learning_rate * factor,
            "gradient_norm": norm,
            "tokens": float(sums.scored),
        }

    def _validate(self, progress: Progress, metrics: Metrics, board: Board, say: Callable[[str], None]) -> None:
        assert self.validation is not None
        wer = 100 * self.validation.edits().rate
        metrics.add(step=progress.step, validation_wer=wer)
        board.add(progress.step, {"validation_wer": wer})
        better = progress.best_wer is None or wer < progress.best_wer
        say(f"step {progress.step}: validation WER {wer:.2f} %{' (best so far)' if better else ''}")
        if better:
            progress.best_wer, progress.best_step = wer, progress.step
            self.checkpoints.save_best(self.student, progress.step)

    def _steps(self, done: int) -> Iterator[list[Loaded]]:
        """Micro-batches of each step still to do, read one step ahead."""
        with ThreadPoolExecutor(1) as reader:
            pending = None
            for epoch, chosen in self._plan(done):
                upcoming = reader.submit(lambda e, c: [self.source.load(one, e) for one in c], epoch, chosen)
                if pending is not None:
                    yield pending.result()
                pending = upcoming
            if pending is not None:
                yield pending.result()

    def _plan(self, done: int) -> Iterator[tuple[int, list[list[Example]]]]:
        step = 0
        for epoch in range(self.settings.epochs):
            order = batches(self.examples, self.settings.batch_size, self.settings.seed, epoch)
            for at in range(0, len(order), self.settings.accumulation):
                if step >= self.total_steps:
                    return
                if step >= done:
                    yield epoch, order[at : at + self.settings.accumulation]
                step += 1
