"""`whisperstill train`: distil the teacher into the student's decoder."""

import shutil
from dataclasses import dataclass

from whisperstill.console import SILENT, Console
from whisperstill.distill.settings import DistillationSettings
from whisperstill.distill.training_run import TrainingReport, build_report, run_training, write_report
from whisperstill.errors import MissingExtraError


@dataclass(frozen=True)
class TrainSettings(DistillationSettings):
    """Train a student."""


@dataclass(frozen=True)
class TrainReport(TrainingReport):
    """Result of a decoder distillation."""

    hours: float
    """Hours of audio in the windows."""
    encoder_windows: int
    """Windows for which an encoder ran (0 if all states came from the store)."""
    parameters_trained: int


def run(settings: TrainSettings, console: Console = SILENT) -> TrainReport:
    """Train, or resume training. All processes started by `torchrun` train one student; the first one writes.

    Raises `SettingsError`, `StoreError`, `NotFoundError`, `CheckpointError`, `TrainingError`.
    """
    from whisperstill.distill.curve_plot import plot_training_curve
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.save_student import save_student
    from whisperstill.distill.setup import AUGMENTATION_CACHE, build_distillation
    from whisperstill.distill.training_checkpoint import trainable_parameters
    from whisperstill.model.device import choose_device

    settings.check()
    process_group = ProcessGroup.from_environment(choose_device(settings.device))
    if not process_group.is_main:
        console = SILENT
    trainer, checkpoint, examples = build_distillation(settings, process_group, console.warn)
    hours = sum(example.label.window.duration for example in examples) / 3600
    num_trained = sum(weight.numel() for weight in trainable_parameters(trainer.student).values())
    console.info(
        f"{len(examples)} windows, {hours:.2f} h, {trainer.total_steps} steps in {settings.num_train_epochs} epochs, "
        f"{num_trained / 1e6:.1f} M parameters trained"
    )
    result = run_training(trainer, "training", console)
    if result.finished and process_group.is_main:
        shutil.rmtree(settings.output / AUGMENTATION_CACHE, ignore_errors=True)
        save_student(trainer, checkpoint, settings, examples)
        try:
            plot_training_curve(settings.output / "metrics.jsonl", settings.output / "training.png")
        except MissingExtraError as error:
            console.warn(str(error))
    report = TrainReport(
        **vars(build_report(settings.output, len(examples), result)),
        hours=hours,
        encoder_windows=result.train_state.windows_encoded,
        parameters_trained=num_trained,
    )
    write_report(report, process_group, console)
    return report
