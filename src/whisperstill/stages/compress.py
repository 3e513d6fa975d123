"""`whisperstill compress`: a student with fewer encoder layers, trained on the teacher's stored encoder states.

After decoder distillation nine tenths of the compute are in the encoder. The paper leaves the encoder unchanged; this
goes beyond it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill.console import SILENT, Console, NullConsole
from whisperstill.distill.settings import LoopSettings
from whisperstill.distill.training_run import TrainingReport, build_report, run_training, write_report
from whisperstill.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from whisperstill.label.store import LabelStore
    from whisperstill.model.checkpoints import Checkpoint
    from whisperstill.model.whisper import Whisper


@dataclass(frozen=True)
class CompressSettings(LoopSettings):
    """Train a shallower encoder to reproduce the teacher's encoder states."""

    student: Path
    """Student (or teacher) whose encoder is to shrink; its decoder is unchanged."""
    labels: Path
    """Label store with the states of the encoder of `student` (`label --encoder-states bfloat16`)."""
    encoder_layers: int = 4
    """Encoder layers to keep, maximally spaced."""
    layers: tuple[int, ...] | None = None
    """Encoder layers to keep, numbered from 0; overrides `encoder_layers`."""
    packing_variants: int | None = 1
    """Number of packing variants of the labels to train on; None: all."""
    num_train_epochs: int = 4
    """Passes over all windows."""


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
    from whisperstill.distill.batch_sampler import BatchSampler
    from whisperstill.distill.encoder_distillation import EncoderDistillation
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.save_student import save_encoder
    from whisperstill.distill.setup import build_validation, open_training_labels, run_identity, select_examples
    from whisperstill.distill.trainer import Trainer
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.student_init import with_encoder_layers
    from whisperstill.text.vocabulary import Vocabulary

    settings.check()
    process_group = ProcessGroup.from_environment(choose_device(settings.device))
    if not process_group.is_main:
        console = NullConsole()
    # 1. Labels, layers and the initial student.
    store, _ = open_training_labels(settings.labels)
    checkpoint = load_checkpoint(str(settings.student))
    _check_encoder(settings, checkpoint, store)
    layers = _select_layers(settings, checkpoint.dims.encoder_layers)
    initial_checkpoint = with_encoder_layers(checkpoint, layers)
    student = _build_student(initial_checkpoint, process_group.device)
    # 2. Trainer. The decisions of the filter do not matter: an encoder learns from all audio.
    end_of_text = Vocabulary.from_size(initial_checkpoint.dims.vocab_size).end_of_text
    examples = select_examples(store, None, end_of_text, settings.packing_variants)
    dtype = choose_dtype(settings.dtype, process_group.device)
    validation = build_validation(settings, student, initial_checkpoint, examples, process_group, None)
    task = EncoderDistillation(student, store, dtype, process_group)
    sampler = BatchSampler(examples, settings, settings.batch_size, process_group)
    identity = run_identity(settings, checkpoint, store, validation)
    trainer = Trainer(student, task, sampler, settings, identity, validation, process_group)
    layer_list = ", ".join(map(str, layers))
    console.info(f"{len(examples)} windows, {trainer.total_steps} steps, encoder layers {layer_list}")
    # 3. Training and report.
    result = run_training(trainer, "compressing", console)
    if result.finished and process_group.is_main:
        save_encoder(trainer, initial_checkpoint, settings.output)
    report = CompressReport(
        **vars(build_report(settings.output, len(examples), result)),
        layers=layers,
        encoder_parameters=initial_checkpoint.parameter_counts.encoder,
    )
    write_report(report, process_group, console)
    return report


def _check_encoder(settings: CompressSettings, checkpoint: "Checkpoint", store: "LabelStore") -> None:
    if store.teacher["encoder_sha256"] != checkpoint.encoder_sha256:
        raise SettingsError(
            f"{settings.student} has another encoder than {store.teacher['source']}, which made the labels"
        )
    if not store.has_encoder_states:
        raise StoreError(f"{store.directory} holds no encoder states: label with --encoder-states bfloat16")


def _select_layers(settings: CompressSettings, depth: int) -> tuple[int, ...]:
    from whisperstill.model.student_init import select_spaced_layers

    if settings.layers is not None:
        return settings.layers
    if not 1 <= settings.encoder_layers <= depth:
        raise SettingsError(f"encoder_layers must be 1 to {depth}, got {settings.encoder_layers}")
    return select_spaced_layers(depth, settings.encoder_layers)


def _build_student(checkpoint: "Checkpoint", device: str) -> "Whisper":
    """The student in float32, with trainable encoder layers."""
    import torch

    from whisperstill.model.whisper import Whisper

    student = Whisper.from_state(checkpoint.dims, checkpoint.state, torch.float32, device)
    student.requires_grad_(False)
    student.encoder.layers.requires_grad_(True)
    student.encoder.norm.requires_grad_(True)
    return student
