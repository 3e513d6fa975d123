"""Running a trainer with a progress bar and SIGTERM, and the report that `train` and `compress` share."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console

if TYPE_CHECKING:
    from whisperstill.distill.batch import WindowBatch
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.trainer import Trainer, TrainResult

BatchT = TypeVar("BatchT", bound="WindowBatch")


@dataclass(frozen=True)
class TrainingReport:
    """Result of a training."""

    output: str
    finished: bool
    """False if it was stopped; the same command resumes it."""
    steps: int
    resumed_from: int
    """Steps of earlier runs."""
    windows: int
    """Training windows."""
    best_wer: float | None
    """Lowest validation WER, per cent; the weights at `best_step` are the result."""
    best_step: int
    seconds: float
    """Wall time of this run."""


def build_report(output: Path, windows: int, result: "TrainResult") -> TrainingReport:
    """The part of the report that both verbs share."""
    state = result.train_state
    finished, resumed_from, seconds = result.finished, result.resumed_from, result.seconds
    return TrainingReport(
        str(output), finished, state.step, resumed_from, windows, state.best_wer, state.best_step, seconds
    )


def run_training(trainer: "Trainer[BatchT]", title: str, console: Console) -> "TrainResult":
    """Run the remaining steps. SIGTERM stops after the current step, with a checkpoint."""
    stop_event = threading.Event()
    with set_event_on_sigterm(stop_event), console.progress(title, trainer.total_steps, "steps") as bar:
        result = trainer.run(
            stop_event.is_set, lambda steps, fields: bar.advance(steps, **fields), console.info, bar.skip
        )
    if not result.finished:
        steps = f"{result.train_state.step} of {trainer.total_steps}"
        console.warn(f"stopped at step {steps}: run the same command to resume")
    return result


@contextmanager
def set_event_on_sigterm(event: threading.Event) -> Iterator[None]:
    """Within the block, SIGTERM sets the event instead of killing the process (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda signum, frame: event.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def write_report(report: TrainingReport, process_group: "ProcessGroup", console: Console) -> None:
    """Write report.json, print the result, and leave the process group."""
    if process_group.is_main:
        atomic_write(Path(report.output) / "report.json", json.dumps(asdict(report), indent=1))
    process_group.barrier()
    process_group.close()
    if report.finished:
        best_wer_note = (
            "" if report.best_wer is None else f", validation WER {report.best_wer:.2f} % at step {report.best_step}"
        )
        console.info(f"student written to {report.output}{best_wer_note}")
