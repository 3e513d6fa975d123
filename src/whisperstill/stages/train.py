"""`whisperstill train`: the student learns from what the teacher left behind."""

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from whisperstill.errors import MissingExtraError, SettingsError, StoreError
from whisperstill.files import write_whole
from whisperstill.records.augmentation import NO_VIEWS, Augmentation
from whisperstill.stages.console import Console, Silent
from whisperstill.stages.terminate import on_terminate


@dataclass(frozen=True)
class TrainSettings:
    """Train a student."""

    student: Path
    """The student to begin with, as `whisperstill init` wrote it."""
    labels: Path
    """A label store, or a filter's output (its verdicts are then obeyed)."""
    output: Path
    """Folder of the trained student (Hugging Face layout), its checkpoints and metrics; run again, it resumes."""
    validation: tuple[str, ...] = ()
    """Corpora for validation; the weights with the lowest WER on them become the result."""
    validation_limit: int = 200
    """Most utterances validated on."""
    targets: Literal["top", "hidden", "live"] = "top"
    """Teacher's distribution: stored top-k (bounds the KL from below), stored hidden states, or its decoder live."""
    states: Literal["auto", "store", "live"] = "auto"
    """Encoder states: from the store, or computed (auto: from the store where it has them)."""
    teacher: str | None = None
    """Teacher for `targets live`, views and the student's own words (default: the one that made the labels)."""
    packings: int | None = None
    """Train only on the labels' first so many ways of packing (default: all)."""
    epochs: int = 10
    """Passes over all windows."""
    max_steps: int | None = None
    """Stop after this many optimiser steps."""
    batch_size: int = 8
    """Windows per optimiser step, over all processes."""
    micro_batch: int | None = None
    """Windows whose gradients are taken at a time (default: as many as fit a quarter of the memory); of no effect on
    the result."""
    learning_rate: float = 3e-4
    """Peak learning rate (the paper: 1e-4 at batch 256)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Decay after the warm-up."""
    beta1: float = 0.9
    """AdamW's first decay."""
    beta2: float = 0.999
    """AdamW's second decay."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's weight decay (the paper: none)."""
    clip: float = 1.0
    """Largest gradient norm."""
    alpha_kl: float = 0.8
    """Weight of the KL loss (paper eq. 6)."""
    alpha_pl: float = 1.0
    """Weight of the pseudo-label loss (paper eq. 6)."""
    alpha_hidden: float = 0.0
    """Weight of the mean squared error to the teacher's last hidden states (not in the paper; helps small data)."""
    alpha_layers: float = 0.0
    """Weight of the mean squared error to what the teacher's layers hand on; needs `targets live`."""
    alpha_attention: float = 0.0
    """Weight of the KL divergence to where the teacher's layers look in the window; needs `targets live`."""
    temperature: float = 2.0
    """Temperature of the KL loss."""
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "tv", "skewed-kl"] = "forward-kl"
    """What stands in the place of the KL loss; `tv` makes drafts that are accepted."""
    freeze_embedding: bool = False
    """Keep the token embedding as it is (not in the paper; helps small data)."""
    freeze_positions: bool = False
    """Keep the decoder's positions as they are."""
    dropout: float = 0.0
    """Share of each residual branch of the decoder dropped in training."""
    token_noise: float = 0.0
    """Share of the tokens that the decoder reads replaced by random ones (the targets stay): it has to listen."""
    state_masks: float = 0.0
    """Share of the encoder's states hidden from the decoder (live: from the teacher's, too), in stretches of 0.2 s."""
    average: float = 0.0
    """Decay of an average over the last steps' weights, which is validated and becomes the result; 0: none."""
    on_policy: float = 0.0
    """Share of the steps, the last ones, in which the student transcribes half of the windows itself, and learns what
    the teacher would have said along its own words."""
    views: Augmentation = NO_VIEWS
    """Windows heard changed, with the teacher's answer for that."""
    timestamp_probability: float = 0.0
    """Share of samples decoded with timestamps (the paper: 0.5); needs labels with timestamps."""
    prompt_probability: float = 0.0
    """Share of samples with the window before as a prompt; only `targets live` teaches their distribution."""
    eval_every: int = 200
    """Steps between validations."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation (weights stay float32); `auto` takes bf16 where the hardware multiplies it fast."""
    seed: int = 0
    """Seed of order, views and dropout."""


@dataclass(frozen=True)
class TrainReport:
    """What training did."""

    output: str
    finished: bool
    steps: int
    resumed_from: int
    windows: int
    hours: float
    encoder_windows: int
    """Windows that the encoder read for training (0 when the states came from the store)."""
    best_wer: float | None
    """Lowest validation WER, per cent; its weights are the result."""
    best_step: int
    parameters_trained: int
    seconds: float
    """Wall time of this run."""


def run(settings: TrainSettings, console: Console) -> TrainReport:
    """Train, or go on training. Started by `torchrun`, all its processes train one student; one of them writes.

    Raises `SettingsError`, `StoreError`, `NotFoundError`, `CheckpointError`, `TrainingError`.
    """
    import torch

    from whisperstill.corpus import read_corpus
    from whisperstill.decode.rules import Rules
    from whisperstill.distill.checkpointing import trained
    from whisperstill.distill.curve_plot import plot
    from whisperstill.distill.examples import Drawing, examples
    from whisperstill.distill.matching import Matching
    from whisperstill.distill.memory import windows_at_a_time
    from whisperstill.distill.objective import Weights
    from whisperstill.distill.ranks import Ranks
    from whisperstill.distill.result import write_result
    from whisperstill.distill.source import BatchSource, TeacherDecoder
    from whisperstill.distill.trainer import Trainer, TrainerSettings
    from whisperstill.distill.validation import Validation
    from whisperstill.distill.views import Views
    from whisperstill.label.store import open_labels
    from whisperstill.label.verdicts import read_verdicts
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.tokenizer import Tokenizer
    from whisperstill.text.vocabulary import Vocabulary

    _check(settings)
    ranks = Ranks.of_environment(choose_device(settings.device))
    device = ranks.device
    if not ranks.leads:
        console = Silent()
    verdicts = None
    labels = settings.labels
    if (labels / "filter.json").exists():
        labels, verdicts = read_verdicts(labels)
    store = open_labels(labels)
    if not store.finished:
        raise StoreError(f"the labels in {labels} are not finished: run `whisperstill label` again first")
    checkpoint = load_checkpoint(str(settings.student))
    made_by = store.manifest["teacher"]
    assert isinstance(made_by, dict)
    if made_by["encoder_sha256"] != checkpoint.encoder_sha256:
        raise SettingsError(
            f"student {settings.student} does not share its encoder with the teacher of the labels "
            f"({made_by['source']}): init a student from that teacher"
        )
    vocabulary = Vocabulary.of(checkpoint.dims.vocab)
    tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab)
    student = Whisper.from_state(checkpoint.dims, checkpoint.state, torch.float32, device)
    original = student.decoder.embedding.weight.detach()
    student.requires_grad_(False)
    student.decoder.requires_grad_(True)
    student.decoder.embedding.requires_grad_(not settings.freeze_embedding)
    student.decoder.positions.requires_grad_(not settings.freeze_positions)

    live = None
    if settings.targets == "live" or settings.views.uses or settings.on_policy:
        named = settings.teacher or made_by["source"].removesuffix(" (installed package)")
        teacher = load_checkpoint(named)
        if teacher.sha256 != made_by["sha256"]:
            raise SettingsError(f"teacher {named} is not the one that made the labels ({made_by['source']})")
        live = Whisper.from_state(teacher.dims, teacher.state, choose_dtype(settings.dtype, device), device)
        original = live.decoder.embedding.weight
    elif not settings.freeze_embedding:
        original = original.clone()
    kept_states = store.settings["states"] != "none"
    if settings.states == "store" and not kept_states:
        raise SettingsError(f"{labels} holds no encoder states: label with --states bf16, or train with --states live")
    needs_hidden = settings.targets == "hidden" or (settings.targets == "top" and settings.alpha_hidden > 0)
    if needs_hidden and not kept_states:
        raise SettingsError(f"{labels} holds no hidden states: label with --states bf16 (or fp32, int8)")
    if settings.targets == "top" and settings.alpha_kl and not store.settings["top"]:
        raise SettingsError(f"{labels} holds no top-k: label with --top 32, or train with --targets hidden or live")

    found = examples(store.labelled(), verdicts, vocabulary.end_of_text)
    if settings.packings is not None:
        found = [example for example in found if example.labelled.window.packing < settings.packings]
    if not found:
        raise StoreError(f"no window of {settings.labels} may teach: every utterance was dropped; filter less strictly")
    hours = sum(example.labelled.window.duration for example in found) / 3600
    views = None
    if settings.views.uses:
        assert live is not None
        views = Views(settings.output / "views", live, vocabulary, settings.views, settings.seed, ranks.size)
    source = BatchSource(
        store,
        student,
        vocabulary,
        Drawing(
            settings.seed,
            settings.timestamp_probability,
            settings.prompt_probability,
            settings.token_noise,
            settings.state_masks,
        ),
        settings.targets,
        settings.temperature,
        kept_states and settings.states != "live",
        settings.alpha_hidden > 0,
        views,
    )
    rules = Rules(vocabulary, checkpoint.generation, False, device)
    validation = None
    if settings.validation:
        utterances = [u for path in settings.validation for u in read_corpus(path).utterances if u.text is not None]
        language = None if vocabulary.multilingual else "en"
        limited = utterances[:: max(1, -(-len(utterances) // settings.validation_limit))]
        validation = Validation(student, tokenizer, rules, limited, language, ranks)

    undecisive = ("output", "student", "labels", "device", "validation", "teacher", "log_every", "micro_batch")
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in undecisive},
        "student_sha256": checkpoint.sha256,
        "labels_sha256": store.sha256,
        "windows": len(found),
    }
    layers = tuple(checkpoint.metadata.get("layers", ()))
    depth = 0 if live is None else live.dims.decoder_layers
    matching = Matching(settings.alpha_hidden, settings.alpha_layers, settings.alpha_attention, layers, depth)
    if matching.looks_inside and len(layers) != checkpoint.dims.decoder_layers:
        raise SettingsError(
            f"{settings.student} does not say which of the teacher's layers it has: make it with `whisperstill init`"
        )
    weights = Weights(settings.alpha_kl, settings.alpha_pl, settings.temperature, settings.divergence)
    trainer = Trainer(
        student,
        TeacherDecoder(original, live, settings.targets == "live"),
        source,
        found,
        TrainerSettings(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            micro_batch=settings.micro_batch or windows_at_a_time(checkpoint.dims, ranks.device),
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            schedule=settings.schedule,
            betas=(settings.beta1, settings.beta2),
            epsilon=settings.epsilon,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
            weights=weights,
            matching=matching,
            dropout=settings.dropout,
            average=settings.average,
            seed=settings.seed,
            dtype=choose_dtype(settings.dtype, device),
            eval_every=settings.eval_every,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
            max_steps=settings.max_steps,
            on_policy=settings.on_policy,
        ),
        settings.output,
        identity,
        validation,
        ranks,
        rules,
    )
    count = sum(weight.numel() for weight in trained(student).values())
    console.info(
        f"{len(found)} windows, {hours:.2f} h, {trainer.total_steps} steps in {settings.epochs} epochs, "
        f"{count / 1e6:.1f} M weights trained"
    )
    stop = threading.Event()
    with (
        on_terminate(stop),
        console.progress("training", trainer.total_steps, "steps") as bar,
    ):
        outcome = trainer.run(
            stop.is_set, lambda steps, fields: bar.advance(steps, **fields), lambda line: console.info(line)
        )
    progress = outcome.progress
    if outcome.finished and ranks.leads:
        if views is not None:
            views.clear()
        languages = {example.labelled.language for example in found}
        write_result(
            trainer,
            checkpoint,
            settings.output,
            found,
            timestamps=settings.timestamp_probability > 0,
            prompts=settings.prompt_probability > 0,
            language=languages.pop() if vocabulary.multilingual and len(languages) == 1 else None,
        )
        try:
            plot(settings.output / "metrics.jsonl", settings.output / "training.png")
        except MissingExtraError as error:
            console.warn(str(error))
    elif not outcome.finished:
        console.warn(f"stopped at step {progress.step} of {trainer.total_steps}: run the same command to go on")
    report = TrainReport(
        output=str(settings.output),
        finished=outcome.finished,
        steps=progress.step,
        resumed_from=outcome.resumed_from,
        windows=len(found),
        hours=hours,
        encoder_windows=progress.windows_encoded,
        best_wer=progress.best_wer,
        best_step=progress.best_step,
        parameters_trained=count,
        seconds=outcome.seconds,
    )
    if ranks.leads:
        write_whole(settings.output / "report.json", json.dumps(asdict(report), indent=1))
    ranks.wait()
    ranks.close()
    if outcome.finished:
        best = "" if report.best_wer is None else f", validation WER {report.best_wer:.2f} % at step {report.best_step}"
        console.info(f"student written to {settings.output}{best}")
    return report


def _check(settings: TrainSettings) -> None:
    problems = []
    for name in ("epochs", "batch_size", "checkpoint_every", "log_every", "validation_limit"):
        if getattr(settings, name) < 1:
            problems.append(f"{name} must be at least 1, got {getattr(settings, name)}")
    if (settings.alpha_layers or settings.alpha_attention) and settings.targets != "live":
        problems.append("alpha_layers and alpha_attention ask the teacher's layers: use --targets live")
    weights = ("alpha_kl", "alpha_pl", "alpha_hidden", "alpha_layers", "alpha_attention")
    for name in (*weights, "weight_decay", "warmup_steps", "eval_every"):
        if getattr(settings, name) < 0:
            problems.append(f"{name} must be at least 0, got {getattr(settings, name)}")
    for name in ("learning_rate", "temperature", "clip"):
        if getattr(settings, name) <= 0:
            problems.append(f"{name} must be above 0, got {getattr(settings, name)}")
    for name in ("timestamp_probability", "prompt_probability", "on_policy"):
        if not 0 <= getattr(settings, name) <= 1:
            problems.append(f"{name} must be 0 to 1, got {getattr(settings, name)}")
    views = settings.views
    for name in ("share", "noisy"):
        if not 0 <= getattr(views, name) <= 1:
            problems.append(f"views.{name} must be 0 to 1, got {getattr(views, name)}")
    for name in ("uses", "masks"):
        if getattr(views, name) < 0:
            problems.append(f"views.{name} must be at least 0, got {getattr(views, name)}")
    if not 0 <= views.speed < 1:
        problems.append(f"views.speed must be 0 to below 1, got {views.speed}")
    if views.lowest_snr > views.highest_snr:
        problems.append(f"views.lowest_snr ({views.lowest_snr}) must be at most highest_snr ({views.highest_snr})")
    if views.uses and settings.targets == "top":
        problems.append("views have no stored top-k: use --targets hidden or live")
    if settings.on_policy and not settings.alpha_kl + settings.alpha_hidden > 0:
        problems.append("on_policy teaches the teacher's distribution: alpha_kl or alpha_hidden must be above 0")
    for name in ("packings", "micro_batch"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, got {value}")
    for name in ("dropout", "token_noise", "state_masks", "average"):
        if not 0 <= getattr(settings, name) < 1:
            problems.append(f"{name} must be 0 to below 1, got {getattr(settings, name)}")
    if not settings.alpha_kl + settings.alpha_pl + settings.alpha_hidden > 0:
        problems.append("at least one of alpha_kl, alpha_pl, alpha_hidden must be above 0")
    if problems:
        raise SettingsError("; ".join(problems))
