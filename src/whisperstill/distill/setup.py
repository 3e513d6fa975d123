"""From settings to what a training needs: labels, student, teacher, loader, validation. One step per function."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from whisperstill.corpus import read_corpus
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.augmentation_cache import AugmentationCache
from whisperstill.distill.batch import OnPolicyBatch, TokenBatch
from whisperstill.distill.batch_sampler import BatchSampler
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample, build_examples
from whisperstill.distill.decoder_distillation import DecoderDistillation
from whisperstill.distill.encoder_distillation import EncoderBatch, EncoderDistillation
from whisperstill.distill.encoder_states import EncoderStateSource, OnlineStates, StoredStates
from whisperstill.distill.memory_budget import default_micro_batch_size
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import CompressSettings, DistillationSettings, LoopSettings
from whisperstill.distill.teacher_targets import StoredTargetReader, TeacherTargetSource
from whisperstill.distill.trainer import Trainer
from whisperstill.distill.validation import FrozenEncoder, Validation
from whisperstill.errors import CorpusError, SettingsError, StoreError
from whisperstill.label.filter_decisions import DecisionKey, decisions_sha256, read_decisions
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.model.device import choose_dtype
from whisperstill.model.student_init import select_spaced_layers, with_encoder_layers
from whisperstill.model.whisper import Whisper
from whisperstill.records import FilterDecision
from whisperstill.records.json_value import JsonValue
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

IGNORED_IN_IDENTITY = {
    *("output", "student", "labels", "validation", "teacher"),
    *("device", "logging_steps", "micro_batch_size"),
}
"""Settings that do not decide the weights, or are in the identity by their content."""
AUGMENTATION_CACHE = "augmentation_cache"
"""Directory of the augmented windows, in the output."""


def build_distillation(
    settings: DistillationSettings, process_group: ProcessGroup, warn: Callable[[str], None]
) -> tuple[Trainer[TokenBatch | OnPolicyBatch], Checkpoint, list[TrainingExample]]:
    """Trainer, initial student, examples. Raises `SettingsError`, `StoreError`, `NotFoundError`, `CheckpointError`."""
    device = process_group.device
    # 1. Labels and student, and whether they go together.
    store, decisions = open_training_labels(settings.labels)
    checkpoint = load_checkpoint(str(settings.student))
    own_encoder = has_own_encoder(settings, checkpoint, store)
    check_label_contents(settings, store)
    check_timestamps(settings, store, warn)
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    examples = select_examples(store, decisions, vocabulary.end_of_text, settings.packing_variants)
    if not examples:
        raise StoreError(f"no window of {settings.labels} is left: every utterance was dropped; filter less strictly")
    # 2. Networks and losses.
    student = build_student(settings, checkpoint, device)
    teacher = build_teacher(settings, checkpoint, student, store)
    dtype = choose_dtype(settings.dtype, device)
    # 3. Batches.
    states = build_state_source(settings, store, student, own_encoder)
    cache = build_augmentation_cache(settings, store, teacher.network, states, process_group)
    targets = StoredTargetReader(store, settings.teacher_targets, settings.temperature, settings.hidden_loss_weight > 0)
    loader = DataLoader(vocabulary, settings, cache or states, targets)
    micro_batch_size = settings.micro_batch_size or default_micro_batch_size(checkpoint.dims, device)
    sampler = BatchSampler(examples, settings, micro_batch_size, process_group, settings.on_policy_fraction, cache)
    # 4. Validation and trainer.
    validation = build_validation(settings, student, checkpoint, examples, process_group, dtype)
    identity = {
        **run_identity(settings, checkpoint, store, validation),
        "decisions_sha256": decisions_sha256(settings.labels),
        "windows": len(examples),
    }
    logit_filter = LogitFilter(vocabulary, checkpoint.generation_config, False, device)
    task = DecoderDistillation(loader, student, teacher, settings, dtype, process_group, logit_filter)
    return Trainer(student, task, sampler, settings, identity, validation, process_group), checkpoint, examples


def build_encoder_distillation(
    settings: CompressSettings, process_group: ProcessGroup
) -> tuple[Trainer[EncoderBatch], Checkpoint, list[TrainingExample], tuple[int, ...]]:
    """Trainer, initial student, examples, encoder layers kept. Raises what `build_distillation` raises."""
    # 1. Labels, layers and the initial student.
    store, _ = open_training_labels(settings.labels)
    checkpoint = load_checkpoint(str(settings.student))
    check_encoder_labels(settings, checkpoint, store)
    depth = checkpoint.dims.encoder_layers
    if settings.layers is None and not 1 <= settings.encoder_layers <= depth:
        raise SettingsError(f"encoder_layers must be 1 to {depth}, got {settings.encoder_layers}")
    layers = select_spaced_layers(depth, settings.encoder_layers) if settings.layers is None else settings.layers
    initial = with_encoder_layers(checkpoint, layers)
    student = Whisper.from_state(initial.dims, initial.state, torch.float32, process_group.device)
    student.requires_grad_(False)
    student.encoder.layers.requires_grad_(True)
    student.encoder.norm.requires_grad_(True)
    # 2. Trainer. The decisions of the filter do not matter: an encoder learns from all audio.
    end_of_text = Vocabulary.from_size(initial.dims.vocab_size).end_of_text
    examples = select_examples(store, None, end_of_text, settings.packing_variants)
    validation = build_validation(settings, student, initial, examples, process_group, None)
    task = EncoderDistillation(student, store, choose_dtype(settings.dtype, process_group.device), process_group)
    sampler = BatchSampler(examples, settings, settings.batch_size, process_group)
    identity = run_identity(settings, checkpoint, store, validation)
    return Trainer(student, task, sampler, settings, identity, validation, process_group), initial, examples, layers


def check_encoder_labels(settings: CompressSettings, checkpoint: Checkpoint, store: LabelStore) -> None:
    """Raise `SettingsError` if another encoder made the labels, `StoreError` if they hold no encoder states."""
    if store.teacher["encoder_sha256"] != checkpoint.encoder_sha256:
        raise SettingsError(
            f"{settings.student} has another encoder than {store.teacher['source']}, which made the labels"
        )
    if not store.has_encoder_states:
        raise StoreError(f"{store.directory} holds no encoder states: label with --encoder-states bfloat16")


def open_training_labels(labels: Path) -> tuple[LabelStore, Mapping[DecisionKey, FilterDecision] | None]:
    """A label store, with its decisions if `labels` is an output of `filter`. Raises `StoreError` if not finished."""
    directory, decisions = read_decisions(labels) if (labels / "filter.json").exists() else (labels, None)
    store = open_labels(directory)
    if not store.is_complete:
        raise StoreError(f"the labels in {directory} are not finished: run `whisperstill label` again")
    return store, decisions


def has_own_encoder(settings: DistillationSettings, checkpoint: Checkpoint, store: LabelStore) -> bool:
    """Whether the student's encoder is not the teacher's, but was distilled from it by `compress`.

    Raises `SettingsError` if the encoder belongs to another teacher, or `settings` need a shared encoder.
    """
    teacher = store.teacher
    if teacher["encoder_sha256"] == checkpoint.encoder_sha256:
        return False
    if teacher["encoder_sha256"] != checkpoint.metadata.get("teacher_encoder_sha256"):
        raise SettingsError(
            f"student {settings.student} does not share its encoder with the teacher of the labels "
            f"({teacher['source']}): init a student from that teacher"
        )
    if settings.encoder_states == "store" or settings.needs_online_teacher:
        raise SettingsError(
            f"{settings.student} has its own encoder, which needs encoder_states online or auto, teacher_targets "
            "hidden or topk, no augment and no on_policy_fraction"
        )
    return True


def check_label_contents(settings: DistillationSettings, store: LabelStore) -> None:
    """Raise `SettingsError` if the store lacks states or top-k that `settings` need."""
    if settings.encoder_states == "store" and not store.has_encoder_states:
        raise SettingsError(
            f"{store.directory} holds no encoder states: label with --encoder-states bfloat16, "
            "or train with --encoder-states online"
        )
    needs_hidden = settings.teacher_targets == "hidden" or (
        settings.teacher_targets == "topk" and settings.hidden_loss_weight > 0
    )
    if needs_hidden and not store.has_encoder_states:
        raise SettingsError(
            f"{store.directory} holds no hidden states: label with --encoder-states bfloat16 (or float32, int8)"
        )
    if settings.teacher_targets == "topk" and settings.kl_weight and not store.settings["top_k"]:
        raise SettingsError(
            f"{store.directory} holds no top-k: label with --top-k 32, or train with --teacher-targets hidden or online"
        )


def check_timestamps(settings: DistillationSettings, store: LabelStore, warn: Callable[[str], None]) -> None:
    """Warn if some windows are trained without the timestamps they were labelled with; no teacher targets fit them.

    Raises `SettingsError` if that holds for all windows.
    """
    if not store.settings["timestamps"] or settings.teacher_targets == "online":
        return
    if settings.timestamp_probability < 1:
        affected = f"{1 - settings.timestamp_probability:.0%} of the windows are trained without the labels' timestamps"
        advice = "set timestamp_probability 1, train with --teacher-targets online, or label without --timestamps"
        if not settings.timestamp_probability:
            raise SettingsError(f"{affected}, for which the store has no teacher targets: {advice}")
        warn(f"{affected}, on their pseudo-labels only: {advice}")


def select_examples(
    store: LabelStore,
    decisions: Mapping[DecisionKey, FilterDecision] | None,
    end_of_text: int,
    packing_variants: int | None,
) -> list[TrainingExample]:
    """Training examples of the first `packing_variants` packing variants (None: all)."""
    return [
        example
        for example in build_examples(store.read_labels(), decisions, end_of_text)
        if packing_variants is None or example.label.window.packing_variant < packing_variants
    ]


def build_student(settings: DistillationSettings, checkpoint: Checkpoint, device: str) -> Whisper:
    """The student in float32 with a trainable decoder and a frozen encoder."""
    student = Whisper.from_state(checkpoint.dims, checkpoint.state, torch.float32, device)
    student.requires_grad_(False)  # freeze encoder and decoder, then unfreeze what is trained
    student.decoder.requires_grad_(True)
    student.decoder.embedding.requires_grad_(not settings.freeze_embed_tokens)
    student.decoder.positions.requires_grad_(not settings.freeze_embed_positions)
    student.decoder.dropout = settings.dropout
    return student


def build_teacher(
    settings: DistillationSettings, checkpoint: Checkpoint, student: Whisper, store: LabelStore
) -> TeacherTargetSource:
    """The teacher's embedding, and its network if it runs during training.

    The embedding is the student's initial one unless that was trained before; then the teacher is loaded. Raises
    `SettingsError` if that teacher did not make the labels.
    """
    known_teacher = checkpoint.metadata.get("teacher_sha256"), checkpoint.metadata.get("teacher_embedding_sha256")
    embedding_changed = known_teacher != (store.teacher["sha256"], checkpoint.embedding_sha256)
    needs_embedding = embedding_changed and settings.teacher_targets == "hidden" and settings.kl_weight > 0
    if not settings.needs_online_teacher and not needs_embedding:
        embedding = student.decoder.embedding.weight.detach()
        return TeacherTargetSource(embedding if settings.freeze_embed_tokens else embedding.clone())
    name = settings.teacher or store.teacher["source"].removesuffix(" (installed package)")
    teacher = load_checkpoint(name)
    if teacher.sha256 != store.teacher["sha256"]:
        raise SettingsError(f"teacher {name} did not make the labels: expected {store.teacher['source']}")
    if not settings.needs_online_teacher:
        return TeacherTargetSource(teacher.state["decoder.embedding.weight"].to(student.device, torch.float32))
    dtype = choose_dtype(settings.dtype, str(student.device))
    network = Whisper.from_state(teacher.dims, teacher.state, dtype, student.device)
    layers = recorded_teacher_layers(settings, checkpoint)
    return TeacherTargetSource(network.decoder.embedding.weight, network, settings.teacher_targets == "online", layers)


def recorded_teacher_layers(settings: DistillationSettings, checkpoint: Checkpoint) -> tuple[int, ...]:
    """The teacher's layers that the student has; `SettingsError` if losses need them and they are not recorded."""
    stored_layers = checkpoint.metadata.get("layers")
    layers = tuple(stored_layers) if isinstance(stored_layers, list) else ()
    if settings.needs_layer_outputs and len(layers) != checkpoint.dims.decoder_layers:
        raise SettingsError(
            f"{settings.student} does not record which of the teacher's layers it has: create it with "
            "`whisperstill init`"
        )
    return layers


def build_state_source(
    settings: DistillationSettings, store: LabelStore, student: Whisper, own_encoder: bool
) -> EncoderStateSource:
    """Encoder states from the store where it has them, else from the student's encoder."""
    from_store = store.has_encoder_states and settings.encoder_states != "online" and not own_encoder
    return StoredStates(store) if from_store else OnlineStates(student)


def build_augmentation_cache(
    settings: DistillationSettings,
    store: LabelStore,
    teacher: Whisper | None,
    original_states: EncoderStateSource,
    process_group: ProcessGroup,
) -> AugmentationCache | None:
    """The cache of augmented windows; None without augmentation."""
    augment, seed = settings.augment, settings.seed
    if not augment.epochs_per_version:
        return None
    assert teacher is not None
    content = f"{augment} {seed} {store.teacher['sha256']} {store.sha256}"
    directory = settings.output / AUGMENTATION_CACHE / hashlib.sha256(content.encode()).hexdigest()[:16]
    return AugmentationCache(directory, teacher, original_states, augment, seed, process_group.world_size)


def build_validation(
    settings: LoopSettings,
    student: Whisper,
    checkpoint: Checkpoint,
    examples: Sequence[TrainingExample],
    process_group: ProcessGroup,
    frozen_dtype: torch.dtype | None,
) -> Validation | None:
    """Validation of a student initialized from `checkpoint`; None without validation corpora.

    `frozen_dtype`: dtype of the states of a frozen encoder; None if training changes the encoder. Utterances without a
    language get the student's default language, else the one language of all training examples. Raises `CorpusError`
    if there are several.
    """
    if not settings.validation:
        return None
    utterances = [
        utterance
        for corpus in settings.validation
        for utterance in read_corpus(corpus).utterances
        if utterance.text is not None
    ]
    vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
    label_languages = {example.label.language for example in examples}
    language = checkpoint.generation_config.language if vocabulary.multilingual else "en"
    if language is None and len(label_languages) == 1:
        (language,) = label_languages
    if language is None and any(utterance.language is None for utterance in utterances):
        raise CorpusError(
            f"some utterances of {', '.join(settings.validation)} have no language, and the labels are in "
            f"{', '.join(sorted(label_languages))}: add it to the manifest, or init the student with --language"
        )
    return Validation(
        student,
        Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size),
        LogitFilter(vocabulary, checkpoint.generation_config, False, process_group.device),
        utterances[:: max(1, -(-len(utterances) // settings.validation_limit))],
        language,
        process_group,
        None if frozen_dtype is None else FrozenEncoder(checkpoint.encoder_sha256, frozen_dtype),
    )


def run_identity(
    settings: LoopSettings, checkpoint: Checkpoint, store: LabelStore, validation: Validation | None
) -> dict[str, JsonValue]:
    """What decides the weights of a run: a run is resumed only with the same identity."""
    values = {name: value for name, value in asdict(settings).items() if name not in IGNORED_IN_IDENTITY}
    identity: dict[str, JsonValue] = json.loads(json.dumps(values))
    return {
        **identity,
        "student_sha256": checkpoint.sha256,
        "labels_sha256": store.sha256,
        "validation_sha256": None if validation is None else validation.sha256,
    }
