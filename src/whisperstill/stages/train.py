"""`whisperstill train`: the student learns from what the teacher left behind."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from whisperstill.errors import MissingExtraError, SettingsError, StoreError
from whisperstill.stages.console import Console, NullConsole
from whisperstill.stages.train_settings import TrainingSettings
from whisperstill.stages.training_setup import build_validation, run_training, write_report

if TYPE_CHECKING:
    from whisperstill.distill.data_loader import TrainBatch
    from whisperstill.records.loss_sums import LossSums


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

    from whisperstill.decode.generate.logit_filter import LogitFilter
    from whisperstill.distill.augmentation_cache import AugmentationCache
    from whisperstill.distill.curve_plot import plot_training_curve
    from whisperstill.distill.data_loader import DataLoader, TeacherTargetSource
    from whisperstill.distill.dataset import ExampleOptions, build_examples
    from whisperstill.distill.distillation_loss import LossConfig
    from whisperstill.distill.feature_losses import FeatureLossConfig
    from whisperstill.distill.memory_budget import default_micro_batch_size
    from whisperstill.distill.on_policy import generate_on_policy
    from whisperstill.distill.process_group import ProcessGroup
    from whisperstill.distill.save_student import save_student
    from whisperstill.distill.train_step import accumulate_gradients
    from whisperstill.distill.trainer import Trainer, TrainerSettings
    from whisperstill.distill.training_checkpoint import trainable_parameters
    from whisperstill.label.filter_decisions import decisions_sha256, read_decisions
    from whisperstill.label.store import open_labels
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.model.whisper import Whisper
    from whisperstill.text.vocabulary import Vocabulary

    settings.check()
    process_group = ProcessGroup.from_environment(choose_device(settings.device))
    device = process_group.device
    if not process_group.is_main:
        console = NullConsole()
    decisions = None
    labels = settings.labels
    if (labels / "filter.json").exists():
        labels, decisions = read_decisions(labels)
    store = open_labels(labels)
    if not store.is_complete:
        raise StoreError(f"the labels in {labels} are not finished: run `whisperstill label` again first")
    checkpoint = load_checkpoint(str(settings.student))
    label_teacher = store.manifest["teacher"]
    assert isinstance(label_teacher, dict)
    has_own_encoder = label_teacher["encoder_sha256"] != checkpoint.encoder_sha256
    if has_own_encoder and label_teacher["encoder_sha256"] != checkpoint.metadata.get("teacher_encoder_sha256"):
        raise SettingsError(
            f"student {settings.student} does not share its encoder with the teacher of the labels "
            f"({label_teacher['source']}): init a student from that teacher"
        )
    needs_shared_encoder = (
        settings.encoder_states == "store"
        or settings.teacher_targets == "online"
        or settings.augment.epochs_per_version
        or settings.on_policy_fraction
    )
    if has_own_encoder and needs_shared_encoder:
        raise SettingsError(
            f"{settings.student} has an encoder of its own: it hears its own states and learns what the store says "
            "(--encoder-states online or auto, --teacher-targets hidden or topk, no augment, no on_policy_fraction)"
        )
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    student = Whisper.from_state(checkpoint.dims, checkpoint.state, torch.float32, device)
    teacher_embedding = student.decoder.embedding.weight.detach()
    student.requires_grad_(False)
    student.decoder.requires_grad_(True)
    student.decoder.embedding.requires_grad_(not settings.freeze_embed_tokens)
    student.decoder.positions.requires_grad_(not settings.freeze_embed_positions)

    online_teacher = None
    needs_online_teacher = (
        settings.teacher_targets == "online"
        or settings.augment.epochs_per_version > 0
        or settings.on_policy_fraction > 0
    )
    known_teacher = checkpoint.metadata.get("teacher_sha256"), checkpoint.metadata.get("teacher_embedding_sha256")
    embedding_changed = known_teacher != (label_teacher["sha256"], checkpoint.embedding_sha256)
    if needs_online_teacher or (embedding_changed and settings.teacher_targets == "hidden" and settings.kl_weight > 0):
        teacher_name = settings.teacher or str(label_teacher["source"]).removesuffix(" (installed package)")
        teacher = load_checkpoint(teacher_name)
        if teacher.sha256 != label_teacher["sha256"]:
            raise SettingsError(
                f"teacher {teacher_name} is not the one that made the labels ({label_teacher['source']})"
            )
        teacher_embedding = teacher.state["decoder.embedding.weight"].to(device, torch.float32)
        if needs_online_teacher:
            online_teacher = Whisper.from_state(
                teacher.dims, teacher.state, choose_dtype(settings.dtype, device), device
            )
            teacher_embedding = online_teacher.decoder.embedding.weight
    elif not settings.freeze_embed_tokens:
        teacher_embedding = teacher_embedding.clone()
    has_encoder_states = store.settings["encoder_states"] != "none"
    if settings.encoder_states == "store" and not has_encoder_states:
        raise SettingsError(
            f"{labels} holds no encoder states: label with --encoder-states bfloat16, "
            "or train with --encoder-states online"
        )
    needs_hidden = settings.teacher_targets == "hidden" or (
        settings.teacher_targets == "topk" and settings.hidden_loss_weight > 0
    )
    if needs_hidden and not has_encoder_states:
        raise SettingsError(f"{labels} holds no hidden states: label with --encoder-states bfloat16 (or float32, int8)")
    if settings.teacher_targets == "topk" and settings.kl_weight and not store.settings["top_k"]:
        raise SettingsError(
            f"{labels} holds no top-k: label with --top-k 32, or train with --teacher-targets hidden or online"
        )

    if store.settings["timestamps"] and settings.teacher_targets != "online" and settings.timestamp_probability < 1:
        untimed_share = (
            f"{1 - settings.timestamp_probability:.0%} of the windows are read without the labels' timestamps"
        )
        advice = "set timestamp_probability 1, train with --teacher-targets online, or label without --timestamps"
        if not settings.timestamp_probability:
            raise SettingsError(f"{untimed_share}, of which the store says nothing but the words: {advice}")
        console.warn(f"{untimed_share} and taught by pseudo-labels alone: {advice}")
    training_examples = build_examples(store.read_labels(), decisions, vocabulary.end_of_text)
    if settings.packing_variants is not None:
        training_examples = [
            example for example in training_examples if example.label.window.packing_variant < settings.packing_variants
        ]
    if not training_examples:
        raise StoreError(f"no window of {settings.labels} may teach: every utterance was dropped; filter less strictly")
    hours = sum(example.label.window.duration for example in training_examples) / 3600
    augmentation_cache = None
    if settings.augment.epochs_per_version:
        assert online_teacher is not None
        cache_identity = (
            f"{settings.augment} {settings.seed} {label_teacher['sha256']} {store.sha256}"  # what a view depends on
        )
        cache_dir = settings.output / "augmentation_cache" / hashlib.sha256(cache_identity.encode()).hexdigest()[:16]
        augmentation_cache = AugmentationCache(
            cache_dir, online_teacher, vocabulary, settings.augment, settings.seed, process_group.world_size
        )
    data_loader = DataLoader(
        store,
        student,
        vocabulary,
        ExampleOptions(
            settings.seed,
            settings.timestamp_probability,
            settings.condition_on_prev_probability,
            settings.decoder_input_noise,
            settings.encoder_mask_prob,
        ),
        settings.teacher_targets,
        settings.temperature,
        has_encoder_states and settings.encoder_states != "online" and not has_own_encoder,
        settings.hidden_loss_weight > 0,
        augmentation_cache,
    )
    logit_filter = LogitFilter(vocabulary, checkpoint.generation_config, False, device)
    compute_dtype = choose_dtype(settings.dtype, device)
    validation = build_validation(settings, student, checkpoint, training_examples, process_group, True, compute_dtype)
    ignored_settings = (
        "output",
        "student",
        "labels",
        "device",
        "validation",
        "teacher",
        "logging_steps",
        "micro_batch_size",
    )
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in ignored_settings},
        "student_sha256": checkpoint.sha256,
        "labels_sha256": store.sha256,
        "decisions_sha256": decisions_sha256(settings.labels),
        "windows": len(training_examples),
        "validation_sha256": validation and validation.sha256,
    }
    layers = tuple(checkpoint.metadata.get("layers", ()))
    teacher_depth = 0 if online_teacher is None else online_teacher.dims.decoder_layers
    feature_loss = FeatureLossConfig(
        settings.hidden_loss_weight, settings.layer_loss_weight, settings.attention_loss_weight, layers, teacher_depth
    )
    if feature_loss.needs_online_teacher and len(layers) != checkpoint.dims.decoder_layers:
        raise SettingsError(
            f"{settings.student} does not say which of the teacher's layers it has: make it with `whisperstill init`"
        )
    loss_config = LossConfig(settings.kl_weight, settings.ce_weight, settings.temperature, settings.divergence)
    target_source = TeacherTargetSource(teacher_embedding, online_teacher, settings.teacher_targets == "online")

    def compute_gradients(micro_batches: "Sequence[TrainBatch]") -> "tuple[LossSums, float]":
        batches = [
            generate_on_policy(student, batch, logit_filter) if batch.on_policy else batch for batch in micro_batches
        ]
        return accumulate_gradients(
            student, target_source, batches, loss_config, feature_loss, compute_dtype, process_group
        )

    trainer = Trainer(
        student,
        compute_gradients,
        data_loader,
        training_examples,
        TrainerSettings(
            num_train_epochs=settings.num_train_epochs,
            batch_size=settings.batch_size,
            micro_batch_size=settings.micro_batch_size
            or default_micro_batch_size(checkpoint.dims, process_group.device),
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type=settings.lr_scheduler_type,
            adam_betas=(settings.adam_beta1, settings.adam_beta2),
            adam_epsilon=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            dropout=settings.dropout,
            ema_decay=settings.ema_decay,
            seed=settings.seed,
            eval_steps=settings.eval_steps,
            save_steps=settings.save_steps,
            logging_steps=settings.logging_steps,
            max_steps=settings.max_steps,
            on_policy_fraction=settings.on_policy_fraction,
        ),
        settings.output,
        identity,
        validation,
        process_group,
    )
    num_trained = sum(weight.numel() for weight in trainable_parameters(student).values())
    console.info(
        f"{len(training_examples)} windows, {hours:.2f} h, {trainer.total_steps} steps in "
        f"{settings.num_train_epochs} epochs, {num_trained / 1e6:.1f} M weights trained"
    )
    result = run_training(trainer, "training", console)
    train_state = result.train_state
    if result.finished and process_group.is_main:
        shutil.rmtree(settings.output / "augmentation_cache", ignore_errors=True)
        languages = {example.label.language for example in training_examples}
        save_student(
            trainer,
            checkpoint,
            settings.output,
            training_examples,
            timestamps=settings.timestamp_probability > 0,
            prompts=settings.condition_on_prev_probability > 0,
            language=languages.pop() if vocabulary.multilingual and len(languages) == 1 else None,
        )
        try:
            plot_training_curve(settings.output / "metrics.jsonl", settings.output / "training.png")
        except MissingExtraError as error:
            console.warn(str(error))
    report = TrainReport(
        output=str(settings.output),
        finished=result.finished,
        steps=train_state.step,
        resumed_from=result.resumed_from,
        windows=len(training_examples),
        hours=hours,
        encoder_windows=train_state.windows_encoded,
        best_wer=train_state.best_wer,
        best_step=train_state.best_step,
        parameters_trained=num_trained,
        seconds=result.seconds,
    )
    write_report(report, settings.output, process_group, console)
    return report
