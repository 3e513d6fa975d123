"""`whisperstill compress`: a student with fewer encoder layers, trained on the teacher's stored encoder states.

After decoder distillation nine tenths of the compute are in the encoder. The paper leaves the encoder unchanged; this
goes beyond it.
"""

from dataclasses import dataclass

from whisperstill.console import SILENT, Console
from whisperstill.distill.settings import CompressSettings
from whisperstill.distill.training_run import TrainingReport, build_report, run_training, write_report

__all__ = ["CompressReport", "CompressSettings", "run"]


@dataclass(frozen=True)
class CompressReport(TrainingReport):
    """Result of an encoder distillation."""

    layers: tuple[int, ...]
    """Encoder layers kept."""
    encoder_parameters: int
    """Parameters of the smaller encoder."""


def run(settings: CompressSettings, console: Console = SILENT) -> CompressReport:
    """Train, or resume training. All processes started by `torchrun` train one encoder; the first one writes.

    Raises `SettingsError`, `StoreError`, `NotFoundError`, `CheckpointError`, `TrainingError`, `AudioError`.
    """
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.save_student import save_encoder
    from whisperstill.distill.setup import build_encoder_distillation
    from whisperstill.model.device import choose_device

    settings.check()
    process_group = ProcessGroup.from_environment(choose_device(settings.device))
    if not process_group.is_main:
        console = SILENT
    trainer, checkpoint, examples, layers = build_encoder_distillation(settings, process_group)
    layer_list = ", ".join(map(str, layers))
    console.info(f"{len(examples)} windows, {trainer.total_steps} steps, encoder layers {layer_list}")
    result = run_training(trainer, "compressing", console)
    if result.finished and process_group.is_main:
        save_encoder(trainer, checkpoint, settings.output)
    report = CompressReport(
        **vars(build_report(settings.output, len(examples), result)),
        layers=layers,
        encoder_parameters=checkpoint.parameter_counts.encoder,
    )
    write_report(report, process_group, console)
    return report
