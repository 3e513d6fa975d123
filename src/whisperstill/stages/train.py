"""`whisperstill train`: the student learns from what the teacher left behind."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from whisperstill.errors import MissingExtraError, SettingsError, StoreError
from whisperstill.stages.console import Console, Silent
from whisperstill.stages.learning import go_through, held_out, tell
from whisperstill.stages.training import TrainingSettings

if TYPE_CHECKING:
    from whisperstill.distill.source import Loaded
    from whisperstill.records.losses import LossSums


@dataclass(frozen=True)
class TrainSettings(TrainingSettings):
    """Train a student."""


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

    from whisperstill.decode.rules import Rules
    from whisperstill.distill.checkpointing import trained
    from whisperstill.distill.curve_plot import plot
    from whisperstill.distill.examples import Drawing, examples
    from whisperstill.distill.matching import Matching
    from whisperstill.distill.memory import windows_at_a_time
    from whisperstill.distill.objective import Weights
    from whisperstill.distill.own_words import spoken
    from whisperstill.distill.ranks import Ranks
    from whisperstill.distill.result import write_result
    from whisperstill.distill.source import BatchSource, TeacherDecoder
    from whisperstill.distill.step import accumulate
    from whisperstill.distill.trainer import Trainer, TrainerSettings
    from whisperstill.distill.views import Views
    from whisperstill.label.store import open_labels
    from whisperstill.label.verdicts import read_verdicts, verdicts_sha256
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    settings.check()
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
    own_encoder = made_by["encoder_sha256"] != checkpoint.encoder_sha256
    if own_encoder and made_by["encoder_sha256"] != checkpoint.metadata.get("teacher_encoder_sha256"):
        raise SettingsError(
            f"student {settings.student} does not share its encoder with the teacher of the labels "
            f"({made_by['source']}): init a student from that teacher"
        )
    asks = settings.states == "store" or settings.targets == "live" or settings.views.uses or settings.on_policy
    if own_encoder and asks:
        raise SettingsError(
            f"{settings.student} has an encoder of its own: it hears its own states and learns what the store says "
            "(--states live or auto, --targets hidden or top, no views, no on_policy)"
        )
    vocabulary = Vocabulary.of(checkpoint.dims.vocab)
    student = Whisper.from_state(checkpoint.dims, checkpoint.state, torch.float32, device)
    original = student.decoder.embedding.weight.detach()
    student.requires_grad_(False)
    student.decoder.requires_grad_(True)
    student.decoder.embedding.requires_grad_(not settings.freeze_embedding)
    student.decoder.positions.requires_grad_(not settings.freeze_positions)

    live = None
    reads = settings.targets == "live" or settings.views.uses > 0 or settings.on_policy > 0
    known = checkpoint.metadata.get("teacher_sha256"), checkpoint.metadata.get("teacher_embedding_sha256")
    own_embedding = known != (made_by["sha256"], checkpoint.embedding_sha256)
    if reads or (own_embedding and settings.targets == "hidden" and settings.alpha_kl > 0):
        named = settings.teacher or made_by["source"].removesuffix(" (installed package)")
        teacher = load_checkpoint(named)
        if teacher.sha256 != made_by["sha256"]:
            raise SettingsError(f"teacher {named} is not the one that made the labels ({made_by['source']})")
        original = teacher.state["decoder.embedding.weight"].to(device, torch.float32)
        if reads:
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

    if store.settings["timestamps"] and settings.targets != "live" and settings.timestamp_probability < 1:
        without = f"{1 - settings.timestamp_probability:.0%} of the windows are read without the labels' timestamps"
        advice = "set timestamp_probability 1, train with --targets live, or label without --timestamps"
        if not settings.timestamp_probability:
            raise SettingsError(f"{without}, of which the store says nothing but the words: {advice}")
        console.warn(f"{without} and taught by pseudo-labels alone: {advice}")
    found = examples(store.labelled(), verdicts, vocabulary.end_of_text)
    if settings.packings is not None:
        found = [example for example in found if example.labelled.window.packing < settings.packings]
    if not found:
        raise StoreError(f"no window of {settings.labels} may teach: every utterance was dropped; filter less strictly")
    hours = sum(example.labelled.window.duration for example in found) / 3600
    views = None
    if settings.views.uses:
        assert live is not None
        heard = f"{settings.views} {settings.seed} {made_by['sha256']} {store.sha256}"  # what a view depends on
        place = settings.output / "views" / hashlib.sha256(heard.encode()).hexdigest()[:16]
        views = Views(place, live, vocabulary, settings.views, settings.seed, ranks.size)
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
        kept_states and settings.states != "live" and not own_encoder,
        settings.alpha_hidden > 0,
        views,
    )
    rules = Rules(vocabulary, checkpoint.generation, False, device)
    computed_in = choose_dtype(settings.dtype, device)
    validation = held_out(settings, student, checkpoint, found, ranks, True, computed_in)
    undecisive = ("output", "student", "labels", "device", "validation", "teacher", "log_every", "micro_batch")
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in undecisive},
        "student_sha256": checkpoint.sha256,
        "labels_sha256": store.sha256,
        "verdicts_sha256": verdicts_sha256(settings.labels),
        "windows": len(found),
        "validation_sha256": validation and validation.sha256,
    }
    layers = tuple(checkpoint.metadata.get("layers", ()))
    depth = 0 if live is None else live.dims.decoder_layers
    matching = Matching(settings.alpha_hidden, settings.alpha_layers, settings.alpha_attention, layers, depth)
    if matching.looks_inside and len(layers) != checkpoint.dims.decoder_layers:
        raise SettingsError(
            f"{settings.student} does not say which of the teacher's layers it has: make it with `whisperstill init`"
        )
    weights = Weights(settings.alpha_kl, settings.alpha_pl, settings.temperature, settings.divergence)
    teacher_decoder = TeacherDecoder(original, live, settings.targets == "live")

    def gradients(micro_batches: "Sequence[Loaded]") -> "tuple[LossSums, float]":
        said = [spoken(student, one, rules) if one.own else one for one in micro_batches]
        return accumulate(student, teacher_decoder, said, weights, matching, computed_in, ranks)

    trainer = Trainer(
        student,
        gradients,
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
            dropout=settings.dropout,
            average=settings.average,
            seed=settings.seed,
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
    )
    count = sum(weight.numel() for weight in trained(student).values())
    console.info(
        f"{len(found)} windows, {hours:.2f} h, {trainer.total_steps} steps in {settings.epochs} epochs, "
        f"{count / 1e6:.1f} M weights trained"
    )
    outcome = go_through(trainer, "training", console)
    progress = outcome.progress
    if outcome.finished and ranks.leads:
        shutil.rmtree(settings.output / "views", ignore_errors=True)
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
    tell(report, settings.output, ranks, console)
    return report
