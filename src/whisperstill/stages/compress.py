"""`whisperstill compress`: a student's encoder with fewer layers, taught by the states that the teacher left behind.

After a decoder was distilled nine tenths of the work are the encoder's. The paper leaves it alone; this goes beyond it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.errors import SettingsError, StoreError
from whisperstill.stages.console import Console, NullConsole
from whisperstill.stages.training_setup import build_validation, run_training, write_report

if TYPE_CHECKING:
    from whisperstill.distill.encoder_distillation import EncoderBatch
    from whisperstill.records.loss_sums import LossSums


@dataclass(frozen=True)
class CompressSettings:
    """Teach a smaller encoder to say what the teacher's said."""

    student: Path
    """The student (or teacher) whose encoder is to shrink; its decoder stays as it is."""
    labels: Path
    """A label store with the states of that very encoder (`label --encoder-states bfloat16`)."""
    output: Path
    """Folder of the smaller student, its checkpoints and metrics; run again, it resumes."""
    encoder_layers: int = 4
    """Layers that are kept, spaced as far apart as can be."""
    layers: tuple[int, ...] | None = None
    """Which layers exactly, counted from 0; overrides `encoder_layers`."""
    packing_variants: int | None = 1
    """Train only on the labels' first so many ways of packing; None: all."""
    validation: tuple[str, ...] = ()
    """Corpora for validation; the weights with the lowest WER on them become the result."""
    validation_limit: int = 200
    """Most utterances validated on: of more, every second, third, ... is taken."""
    num_train_epochs: int = 4
    """Passes over all windows."""
    max_steps: int | None = None
    """Stop after this many optimiser steps."""
    batch_size: int = 8
    """Windows per optimiser step, over all processes."""
    learning_rate: float = 3e-4
    """Peak learning rate."""
    warmup_steps: int = 50
    """Steps of linear warm-up; then linear decay."""
    max_grad_norm: float = 1.0
    """Largest gradient norm."""
    eval_steps: int = 200
    """Steps between validations; 0: at the end alone."""
    save_steps: int = 200
    """Steps between checkpoints."""
    logging_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of computation (weights stay float32)."""
    seed: int = 0
    """Seed of the windows' order."""


@dataclass(frozen=True)
class CompressReport:
    """What it did."""

    output: str
    finished: bool
    steps: int
    resumed_from: int
    windows: int
    layers: tuple[int, ...]
    """Of the encoder, kept."""
    encoder_parameters: int
    """Of the smaller encoder."""
    best_wer: float | None
    """Lowest validation WER, per cent; its weights are the result."""
    best_step: int
    seconds: float


def run(settings: CompressSettings, console: Console) -> CompressReport:
    """Train, or go on training. Started by `torchrun`, all its processes train one encoder.

    Raises `SettingsError`, `StoreError`, `NotFoundError`, `CheckpointError`, `TrainingError`, `AudioError`.
    """
    import torch

    from whisperstill.distill.dataset import build_examples
    from whisperstill.distill.encoder_distillation import EncoderDataLoader, accumulate_encoder_gradients
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.save_student import save_encoder
    from whisperstill.distill.trainer import Trainer, TrainerSettings
    from whisperstill.label.filter_decisions import read_decisions
    from whisperstill.label.store import open_labels
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.student_init import select_spaced_layers, with_encoder_layers
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    _check(settings)
    process_group = ProcessGroup.from_environment(choose_device(settings.device))
    if not process_group.is_main:
        console = NullConsole()
    labels = read_decisions(settings.labels)[0] if (settings.labels / "filter.json").exists() else settings.labels
    store = open_labels(labels)
    checkpoint = load_checkpoint(str(settings.student))
    label_teacher = store.manifest["teacher"]
    assert isinstance(label_teacher, dict)
    if label_teacher["encoder_sha256"] != checkpoint.encoder_sha256:
        raise SettingsError(
            f"{settings.student} has another encoder than {label_teacher['source']}, who made the labels"
        )
    if not store.is_complete or store.settings["encoder_states"] == "none":
        raise StoreError(f"{labels} must be finished and hold encoder states: label with --encoder-states bfloat16")
    depth = checkpoint.dims.encoder_layers
    if settings.layers is None and not 1 <= settings.encoder_layers <= depth:
        raise SettingsError(f"encoder_layers must be 1 to {depth}, got {settings.encoder_layers}")
    layer_indices = settings.layers or select_spaced_layers(depth, settings.encoder_layers)
    initial_checkpoint = with_encoder_layers(checkpoint, layer_indices)
    student = Whisper.from_state(initial_checkpoint.dims, initial_checkpoint.state, torch.float32, process_group.device)
    student.requires_grad_(False)
    student.encoder.layers.requires_grad_(True)
    student.encoder.norm.requires_grad_(True)

    vocabulary = Vocabulary.from_size(initial_checkpoint.dims.vocab_size)
    training_examples = build_examples(store.read_labels(), None, vocabulary.end_of_text)
    if settings.packing_variants is not None:
        training_examples = [
            example for example in training_examples if example.label.window.packing_variant < settings.packing_variants
        ]
    dtype = choose_dtype(settings.dtype, process_group.device)
    validation = build_validation(settings, student, initial_checkpoint, training_examples, process_group, False, dtype)
    ignored_settings = ("output", "student", "labels", "device", "validation", "logging_steps")
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in ignored_settings},
        "student_sha256": checkpoint.sha256,
        "labels_sha256": store.sha256,
        "validation_sha256": validation and validation.sha256,
    }

    def compute_gradients(micro_batches: "Sequence[EncoderBatch]") -> "tuple[LossSums, float]":
        return accumulate_encoder_gradients(student, micro_batches, dtype, process_group)

    trainer = Trainer(
        student,
        compute_gradients,
        EncoderDataLoader(store, initial_checkpoint.dims.mels),
        training_examples,
        TrainerSettings(
            num_train_epochs=settings.num_train_epochs,
            batch_size=settings.batch_size,
            micro_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type="linear",
            adam_betas=(0.9, 0.999),
            adam_epsilon=1e-8,
            weight_decay=0.0,
            max_grad_norm=settings.max_grad_norm,
            dropout=0.0,
            ema_decay=0.0,
            seed=settings.seed,
            eval_steps=settings.eval_steps,
            save_steps=settings.save_steps,
            logging_steps=settings.logging_steps,
            max_steps=settings.max_steps,
            on_policy_fraction=0.0,
        ),
        settings.output,
        identity,
        validation,
        process_group,
    )
    console.info(
        f"{len(training_examples)} windows, {trainer.total_steps} steps, "
        f"encoder layers {', '.join(map(str, layer_indices))}"
    )
    result = run_training(trainer, "compressing", console)
    train_state = result.train_state
    if result.finished and process_group.is_main:
        save_encoder(trainer, initial_checkpoint, settings.output)
    report = CompressReport(
        output=str(settings.output),
        finished=result.finished,
        steps=train_state.step,
        resumed_from=result.resumed_from,
        windows=len(training_examples),
        layers=tuple(layer_indices),
        encoder_parameters=initial_checkpoint.parameter_counts.encoder,
        best_wer=train_state.best_wer,
        best_step=train_state.best_step,
        seconds=result.seconds,
    )
    write_report(report, settings.output, process_group, console)
    return report


def _check(settings: CompressSettings) -> None:
    problems = [
        f"{name} must be at least 1, got {getattr(settings, name)}"
        for name in ("num_train_epochs", "batch_size", "save_steps", "logging_steps", "validation_limit")
        if getattr(settings, name) < 1
    ]
    if settings.learning_rate <= 0 or settings.max_grad_norm <= 0:
        problems.append("learning_rate and max_grad_norm must be above 0")
    for name in ("packing_variants", "max_steps"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, got {value}")
    if problems:
        raise SettingsError("; ".join(problems))
