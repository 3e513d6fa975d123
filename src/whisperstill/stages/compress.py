"""`whisperstill compress`: a student's encoder with fewer layers, taught by the states that the teacher left behind.

After a decoder was distilled nine tenths of the work are the encoder's. The paper leaves it alone; this goes beyond it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.errors import SettingsError, StoreError
from whisperstill.stages.console import Console, Silent
from whisperstill.stages.learning import go_through, held_out, tell

if TYPE_CHECKING:
    from whisperstill.distill.hearing import Sounds
    from whisperstill.records.losses import LossSums


@dataclass(frozen=True)
class CompressSettings:
    """Teach a smaller encoder to say what the teacher's said."""

    student: Path
    """The student (or teacher) whose encoder is to shrink; its decoder stays as it is."""
    labels: Path
    """A label store with the states of that very encoder (`label --states bf16`)."""
    output: Path
    """Folder of the smaller student, its checkpoints and metrics; run again, it resumes."""
    encoder_layers: int = 4
    """Layers that are kept, spaced as far apart as can be."""
    layers: tuple[int, ...] | None = None
    """Which layers exactly, counted from 0; overrides `encoder_layers`."""
    packings: int | None = 1
    """Train only on the labels' first so many ways of packing; None: all."""
    validation: tuple[str, ...] = ()
    """Corpora for validation; the weights with the lowest WER on them become the result."""
    validation_limit: int = 200
    """Most utterances validated on: of more, every second, third, ... is taken."""
    epochs: int = 4
    """Passes over all windows."""
    max_steps: int | None = None
    """Stop after this many optimiser steps."""
    batch_size: int = 8
    """Windows per optimiser step, over all processes."""
    learning_rate: float = 3e-4
    """Peak learning rate."""
    warmup_steps: int = 50
    """Steps of linear warm-up; then linear decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    eval_every: int = 200
    """Steps between validations; 0: at the end alone."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
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

    from whisperstill.distill.examples import examples
    from whisperstill.distill.hearing import SoundSource, learn_states
    from whisperstill.distill.ranks import Ranks
    from whisperstill.distill.result import write_encoder
    from whisperstill.distill.trainer import Trainer, TrainerSettings
    from whisperstill.label.store import open_labels
    from whisperstill.label.verdicts import read_verdicts
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.student import choose_layers, with_encoder_layers
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    _check(settings)
    ranks = Ranks.of_environment(choose_device(settings.device))
    if not ranks.leads:
        console = Silent()
    labels = read_verdicts(settings.labels)[0] if (settings.labels / "filter.json").exists() else settings.labels
    store = open_labels(labels)
    whole = load_checkpoint(str(settings.student))
    made_by = store.manifest["teacher"]
    assert isinstance(made_by, dict)
    if made_by["encoder_sha256"] != whole.encoder_sha256:
        raise SettingsError(f"{settings.student} has another encoder than {made_by['source']}, who made the labels")
    if not store.finished or store.settings["states"] == "none":
        raise StoreError(f"{labels} must be finished and hold encoder states: label with --states bf16")
    depth = whole.dims.encoder_layers
    if settings.layers is None and not 1 <= settings.encoder_layers <= depth:
        raise SettingsError(f"encoder_layers must be 1 to {depth}, got {settings.encoder_layers}")
    kept = settings.layers or choose_layers(depth, settings.encoder_layers)
    initial = with_encoder_layers(whole, kept)
    student = Whisper.from_state(initial.dims, initial.state, torch.float32, ranks.device)
    student.requires_grad_(False)
    student.encoder.layers.requires_grad_(True)
    student.encoder.norm.requires_grad_(True)

    vocabulary = Vocabulary.of(initial.dims.vocab)
    found = examples(store.labelled(), None, vocabulary.end_of_text)
    if settings.packings is not None:
        found = [example for example in found if example.labelled.window.packing < settings.packings]
    dtype = choose_dtype(settings.dtype, ranks.device)
    validation = held_out(settings, student, initial, found, ranks, False, dtype)
    undecisive = ("output", "student", "labels", "device", "validation", "log_every")
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in undecisive},
        "student_sha256": whole.sha256,
        "labels_sha256": store.sha256,
        "validation_sha256": validation and validation.sha256,
    }

    def gradients(micro_batches: "Sequence[Sounds]") -> "tuple[LossSums, float]":
        return learn_states(student, micro_batches, dtype, ranks)

    trainer = Trainer(
        student,
        gradients,
        SoundSource(store, initial.dims.mels),
        found,
        TrainerSettings(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            micro_batch=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            schedule="linear",
            betas=(0.9, 0.999),
            epsilon=1e-8,
            weight_decay=0.0,
            clip=settings.clip,
            dropout=0.0,
            average=0.0,
            seed=settings.seed,
            eval_every=settings.eval_every,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
            max_steps=settings.max_steps,
            on_policy=0.0,
        ),
        settings.output,
        identity,
        validation,
        ranks,
    )
    console.info(f"{len(found)} windows, {trainer.total_steps} steps, encoder layers {', '.join(map(str, kept))}")
    outcome = go_through(trainer, "compressing", console)
    progress = outcome.progress
    if outcome.finished and ranks.leads:
        write_encoder(trainer, initial, settings.output)
    report = CompressReport(
        output=str(settings.output),
        finished=outcome.finished,
        steps=progress.step,
        resumed_from=outcome.resumed_from,
        windows=len(found),
        layers=tuple(kept),
        encoder_parameters=initial.parameters.encoder,
        best_wer=progress.best_wer,
        best_step=progress.best_step,
        seconds=outcome.seconds,
    )
    tell(report, settings.output, ranks, console)
    return report


def _check(settings: CompressSettings) -> None:
    problems = [
        f"{name} must be at least 1, got {getattr(settings, name)}"
        for name in ("epochs", "batch_size", "checkpoint_every", "log_every", "validation_limit")
        if getattr(settings, name) < 1
    ]
    if settings.learning_rate <= 0 or settings.clip <= 0:
        problems.append("learning_rate and clip must be above 0")
    for name in ("packings", "max_steps"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, got {value}")
    if problems:
        raise SettingsError("; ".join(problems))
