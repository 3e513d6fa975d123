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

from whisperstill.distill.average import Average
from whisperstill.distill.checkpointing import Checkpoints, Progress, trained
from whisperstill.distill.examples import Example, batches
from whisperstill.distill.memory import Heap
from whisperstill.distill.metrics import Metrics
from whisperstill.distill.own_words import says_itself
from whisperstill.distill.ranks import Ranks
from whisperstill.distill.schedule import Shape, learning_rate_factor
from whisperstill.distill.source import Loaded
from whisperstill.distill.tensorboard import Board
from whisperstill.distill.validation import Validation
from whisperstill.distill.views import Views
from whisperstill.errors import TrainingError
from whisperstill.model.whisper import Whisper
from whisperstill.records.losses import LossSums
from whisperstill.records.random import rng
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True)
class TrainerSettings:
    """What the loop needs to know. See `stages.training.TrainingSettings` for what each means."""

    epochs: int
    batch_size: int
    micro_batch: int
    learning_rate: float
    warmup_steps: int
    schedule: Shape
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    clip: float
    dropout: float
    average: float
    seed: int
    eval_every: int
    checkpoint_every: int
    log_every: int
    max_steps: int | None
    on_policy: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    finished: bool
    """False when it was asked to stop; it can be resumed."""
    progress: Progress
    resumed_from: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Share:
    """A micro-batch to be read."""

    examples: Sequence[Example]
    own: bool


@runtime_checkable
class Source(Protocol):
    """Where batches come from."""

    views: Views | None
    windows_encoded: int

    @property
    def encodes(self) -> bool:
        """Whether an encoder may be asked for a batch."""
        ...

    def load(self, examples: Sequence[Example], epoch: int, own: bool = False) -> Loaded:
        """A batch for these examples as this epoch sees them; `own`: for the student to say itself."""
        ...


Gradients = Callable[[Sequence[Any]], tuple[LossSums, float]]
"""Adds the gradients of a step's micro-batches to the student's; gives the sums and the loss, over all processes."""


class Trainer:
    """Trains what of a student asks for gradients, on examples."""

    def __init__(
        self,
        student: Whisper,
        gradients: Gradients,
        source: Source,
        found: Sequence[Example],
        settings: TrainerSettings,
        output: Path,
        identity: dict[str, Any],
        validation: Validation | None,
        ranks: Ranks,
    ) -> None:
        self.student, self.gradients, self.source, self.examples = student, gradients, source, found
        self.settings, self.output, self.identity, self.validation = settings, output, identity, validation
        self.ranks = ranks
        self.checkpoints = Checkpoints(output, ranks)
        student.decoder.dropout = settings.dropout
        self.weights = list(trained(student).values())
        self.optimiser = torch.optim.AdamW(
            [{"params": [weight for index, weight in enumerate(self.weights) if ranks.owns(index)]}],  # or none
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.average = Average(student, settings.average) if settings.average else None
        self.steps_per_epoch = math.ceil(len(found) / settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        if settings.max_steps is not None:
            self.total_steps = min(self.total_steps, settings.max_steps)

    def run(
        self,
        stop: Callable[[], bool],
        advance: Callable[[int, dict[str, str]], None],
        say: Callable[[str], None],
        found: Callable[[int], None] = lambda steps: None,
    ) -> Outcome:
        """Train to the end, or until `stop()`, then checkpoint. `found` is told the steps that an earlier run took.

        Raises `TrainingError` when the loss is no longer finite; the last checkpoint is then still good.
        """
        begun = time.monotonic()
        progress = self.restore() or Progress(identity=self.identity)
        resumed_from = progress.step
        metrics = Metrics(self.output / "metrics.jsonl", progress.step, self.ranks.leads)
        board = Board(self.output / "tensorboard", progress.step, self.ranks.leads)
        found(progress.step)
        encoded_before = progress.windows_encoded - self.source.windows_encoded
        self.student.train()
        heap = Heap(0.25 / self.ranks.size)
        stopped = False
        for micro_batches in self._steps(progress.step):
            figures = self._step(progress, micro_batches)
            progress.windows_encoded = encoded_before + int(figures.pop("encoded"))
            last = progress.step == self.total_steps
            if progress.step % self.settings.log_every == 0 or last:
                metrics.add(step=progress.step, **figures)
                board.add(progress.step, figures)
            advance(1, {"loss": f"{figures['loss']:.3f}", "agreement": f"{figures['agreement']:.3f}"})
            due = self.settings.eval_every and progress.step % self.settings.eval_every == 0
            if self.validation is not None and (due or last):
                self._validate(progress, metrics, board, say)
            stopped = self.ranks.total(stop())[0] > 0 and not last
            if progress.step % self.settings.checkpoint_every == 0 or last or stopped:
                self.checkpoints.save(self.student, self.optimiser, self._averages(), progress)
            if stopped:
                break
            heap.tidy()
        board.close()
        self.student.eval()
        return Outcome(not stopped, progress, resumed_from, time.monotonic() - begun)

    def restore(self) -> Progress | None:
        """Go back to the newest checkpoint; None when there is none."""
        return self.checkpoints.restore(self.student, self.optimiser, self._averages(), self.identity)

    def heard(self) -> AbstractContextManager[None]:
        """Within, the student has the weights that a listener would get now: the average's where there is one."""
        return self.average.heard() if self.average else nullcontext()

    def _averages(self) -> dict[str, Tensor]:
        return self.average.values if self.average else {}

    def _step(self, progress: Progress, micro_batches: Sequence[Loaded]) -> dict[str, float]:
        settings = self.settings
        factor = learning_rate_factor(
            progress.step, warmup=settings.warmup_steps, total=self.total_steps, shape=settings.schedule
        )
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        torch.manual_seed(int(rng(settings.seed, progress.step, "dropout", self.ranks.rank).integers(2**62)))
        self.student.zero_grad(set_to_none=True)
        sums, loss = self.gradients(micro_batches)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, settings.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            windows = [window for loaded in micro_batches for window in loaded.batch.windows]
            raise TrainingError(
                f"loss {loss} with gradient norm {norm} at step {progress.step + 1}, batch {' '.join(windows)}: lower "
                "--learning-rate (with another --output: a run keeps its settings) or look at that audio"
            )
        self.optimiser.step()
        self.ranks.spread(self.weights)
        progress.step += 1
        if self.average:
            self.average.update(progress.step)
        return {
            "loss": loss,
            **sums.means(),
            "learning_rate": settings.learning_rate * factor,
            "gradient_norm": norm,
            "tokens": float(sums.scored),
            **self._amounts(micro_batches),
        }

    def _amounts(self, micro_batches: Sequence[Loaded]) -> dict[str, float]:
        """Windows of a step, decoder tokens read, the share of the encoder's positions that holds no audio, and the
        windows that the encoder has read in this run."""
        batches_ = [loaded.batch for loaded in micro_batches]
        windows, tokens, seconds, encoded = self.ranks.total(
            sum(len(batch.windows) for batch in batches_),
            sum(sum(batch.lengths) for batch in batches_),
            sum(loaded.seconds for loaded in micro_batches),
            self.source.windows_encoded,
        )
        silence = 1 - seconds / (windows * WINDOW_SECONDS)
        return {"windows": windows, "decoder_tokens": tokens, "silence": silence, "encoded": encoded}

    def _validate(self, progress: Progress, metrics: Metrics, board: Board, say: Callable[[str], None]) -> None:
        assert self.validation is not None
        with self.heard():
            wer = 100 * self.validation.edits().rate
            better = progress.best_wer is None or wer < progress.best_wer
            if better:
                progress.best_wer, progress.best_step = wer, progress.step
                self.checkpoints.save_best(self.student, progress.step)
        metrics.add(step=progress.step, validation_wer=wer)
        board.add(progress.step, {"validation_wer": wer})
        say(f"step {progress.step}: validation WER {wer:.2f} %{' (best so far)' if better else ''}")

    def _steps(self, done: int) -> Iterator[list[Loaded]]:
        """Micro-batches of each step still to do, read one step ahead; one by one where an encoder on the CPU would
        fight with the step for its threads."""

        def read(epoch: int, shares: Sequence[_Share]) -> list[Loaded]:
            return [self.source.load(share.examples, epoch, share.own) for share in shares]

        if self.source.encodes and self.student.device.type == "cpu":
            for epoch, shares in self._plan(done):
                yield read(epoch, shares)
            return
        with ThreadPoolExecutor(1) as reader:
            pending = None
            for epoch, shares in self._plan(done):
                upcoming = reader.submit(read, epoch, shares)
                if pending is not None:
                    yield pending.result()
                pending = upcoming
            if pending is not None:
                yield pending.result()

    def _plan(self, done: int) -> Iterator[tuple[int, list[_Share]]]:
        """The micro-batches of this process, step by step."""
        settings = self.settings
        few, own_from = settings.micro_batch, self.total_steps - round(settings.on_policy * self.total_steps)
        for step, (epoch, whole) in enumerate(self._batches()):
            if step >= self.total_steps:
                return
            if step < done:
                continue
            mine = self.ranks.share(whole)
            own = [example for example in mine if step >= own_from and says_itself(example, settings.seed, step)]
            others = [example for example in mine if example not in own]
            yield (
                epoch,
                [_Share(part[at : at + few], part is own) for part in (others, own) for at in range(0, len(part), few)],
            )

    def _batches(self) -> Iterator[tuple[int, list[Example]]]:
        settings = self.settings
        if self.source.views is not None:
            yield from self.source.views.plan(self.examples, settings.batch_size, settings.epochs)
            return
        for epoch in range(settings.epochs):
            for whole in batches(self.examples, settings.batch_size, settings.seed, epoch):
                yield epoch, whole
