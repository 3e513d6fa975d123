"""`whisperstill label`: the teacher visits every window of a corpus once and leaves all that a student needs."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import CorpusError, SettingsError
from whisperstill.records import Skipped, Utterance, Window
from whisperstill.remote_files import is_remote
from whisperstill.stages.console import Console

if TYPE_CHECKING:
    from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class LabelSettings:
    """Label audio with a teacher."""

    teacher: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), or a hub id."""
    manifest: tuple[str, ...]
    """Corpora: JSONL manifests, or folders in any layout that is known."""
    output: Path
    """Folder of the label store; run again after an interruption, it resumes."""
    layout: str = "auto"
    """Layout of the corpora; `auto` looks at the files."""
    language: str | None = None
    """Language of all audio (ISO 639-1); default: the corpus's, else detected window by window."""
    timestamps: bool = False
    """Let the teacher decode with timestamps."""
    label_source: Literal["teacher", "reference"] = "teacher"
    """Whose words the labels are. `reference`: the teacher reads the corpus's own and says how probable they are; with
    capitals and punctuation they teach best."""
    top_k: int = 32
    """Largest logits kept per token, for the KL loss; 0 keeps none."""
    encoder_states: Literal["none", "float32", "bfloat16", "int8"] = "none"
    """Keep the encoder's states (and the decoder's last hidden states), so that training needs no encoder."""
    packing_variants: int = 1
    """Ways of packing the same utterances into windows: 1 is recording order, more are reshuffled views."""
    max_packed_seconds: float = 30.0
    """Most seconds of audio packed into a window."""
    min_packed_seconds: float | None = None
    """Reshuffled views fill each window to a length drawn between this and `max_packed_seconds`: short clips occur
    too. Default: all windows are filled as far as they can be."""
    batch_size: int = 16
    """Windows decoded at a time."""
    shard_windows: int = 64
    """Windows per shard of the store: what an interruption may cost."""
    max_new_tokens: int = 224
    """Most tokens of one window."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of computation; `auto` takes bfloat16 where the hardware multiplies it fast."""
    seed: int = 0
    """Seed of the reshuffled packings."""
    workers: int = 0
    """Ray workers that label at the same time (extra `ray`); 0: this process alone."""
    ray_address: str = "local"
    """The Ray cluster: `local` begins one on this machine, `auto` finds the one that this machine is in."""
    strict: bool = False
    """Exit with status 1 if anything was skipped."""


@dataclass(frozen=True)
class LabelReport:
    """What labelling did."""

    output: str
    windows: int
    hours: float
    encoder_windows: int
    """Windows that the teacher's encoder read in this run."""
    resumed_windows: int
    """Windows found finished."""
    seconds: float
    speed: float
    """Hours of audio per hour, in this run; 0 when nothing was left to do."""
    wer: float | None
    """Word error rate of the labels against the references, per cent."""
    problems: tuple[Skipped, ...]


def _label_inputs(window: Window, settings: LabelSettings) -> str:
    """What a window's labels come from: its sound, and its transcripts where those are read."""
    texts = [utterance.text for utterance in window.utterances] if settings.label_source == "reference" else []
    return "\n".join([window.id, *map(str, texts)])


def _split_usable(
    source: str, utterances: tuple[Utterance, ...], settings: LabelSettings, vocabulary: "Vocabulary"
) -> tuple[tuple[Utterance, ...], list[Skipped]]:
    """What the teacher can label of a corpus, and why not the rest."""
    from whisperstill.text.languages import language_code

    def rejection_reason(utterance: Utterance) -> str | None:
        if settings.label_source == "reference" and not (
            utterance.text and utterance.audio.duration <= settings.max_packed_seconds
        ):
            return f"no transcript to read, or longer than {settings.max_packed_seconds:g} s"
        try:
            language_is_known = utterance.language is None or language_code(utterance.language) in (
                vocabulary.languages or ("en",)
            )
        except SettingsError:
            language_is_known = False
        return None if language_is_known else f"the teacher does not know its language, {utterance.language}"

    reasons = [(utterance, rejection_reason(utterance)) for utterance in utterances]
    return (
        tuple(utterance for utterance, reason in reasons if reason is None),
        [Skipped(f"{source}: {utterance.id}", reason) for utterance, reason in reasons if reason is not None],
    )


def _unique_corpus_name(used_names: set[str], name: str, source: str) -> str:
    """A corpus's name, with those of the folders above it until no corpus before it is called so."""
    folders = [part for part in source.replace("\\", "/").split("/")[:-1] if part not in ("", ".", "..")]
    if folders and folders[-1] == name:
        folders.pop()
    for folder in reversed(folders):
        if name not in used_names:
            return name
        name = f"{folder}-{name}"
    if name in used_names:
        raise SettingsError(
            f"two corpora are called {name}, the second is {source}: name each once, or rename a folder"
        )
    return name


def _skipped_are_readable(skipped: list[dict[str, str]], windows: Sequence[Window]) -> bool:
    """Whether anything that a finished shard had to leave out can be heard by now (a disk is back, a server up)."""
    from whisperstill.corpus.loading import load_utterance_waveform
    from whisperstill.errors import AudioError

    skipped_sources = {entry["source"] for entry in skipped}
    for utterance in (candidate for window in windows for candidate in window.utterances) if skipped_sources else ():
        if f"{utterance.corpus}/{utterance.id}" in skipped_sources:
            try:
                load_utterance_waveform(utterance)
            except AudioError:
                continue
            return True
    return False


def run(settings: LabelSettings, console: Console) -> LabelReport:
    """Label a corpus, or finish labelling it.

    Raises `SettingsError`, `CorpusError`, `CheckpointError`, `NotFoundError`, `StoreError`.
    """
    import torch

    from whisperstill.corpus import read_corpus
    from whisperstill.corpus.long_recordings import split_long
    from whisperstill.corpus.packing import pack
    from whisperstill.label.ray_workers import label_with_ray
    from whisperstill.label.shard_writer import LabelJob, ShardSpec, ShardWriter
    from whisperstill.label.store import MANIFEST, LabelStoreWriter, hash_windows, open_labels
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.records.edit_counts import NO_EDITS
    from whisperstill.text.vocabulary import Vocabulary

    _check(settings)
    checkpoint = load_checkpoint(settings.teacher)
    problems: list[Skipped] = []
    shards: list[list[Window]] = []
    packed_sets: set[tuple[Utterance, ...]] = set()
    corpus_names: set[str] = set()
    for source in settings.manifest:
        corpus = read_corpus(source, layout=settings.layout, language=settings.language)
        problems += corpus.skipped
        usable, unusable = _split_usable(
            source, corpus.utterances, settings, Vocabulary.from_size(checkpoint.dims.vocab_size)
        )
        problems += unusable
        if (name := _unique_corpus_name(corpus_names, corpus.name, source)) != corpus.name:
            usable = tuple(replace(utterance, corpus=name) for utterance in usable)
        corpus_names.add(name)
        utterances, notes = split_long(usable, settings.max_packed_seconds)
        problems += notes
        for variant in range(settings.packing_variants):
            packed = pack(
                utterances,
                max_seconds=settings.max_packed_seconds,
                min_seconds=settings.min_packed_seconds,
                packing_variant=variant,
                seed=settings.seed,
            )
            # A reshuffled view that happens to be one of the views before would only be heard twice.
            windows = [window for window in packed if window.utterances not in packed_sets]
            packed_sets.update(window.utterances for window in windows)
            shard_size = settings.shard_windows
            shards += [windows[start : start + shard_size] for start in range(0, len(windows), shard_size)]
    num_windows = sum(len(shard) for shard in shards)
    if not num_windows:
        raise CorpusError(f"nothing is left to label: {problems[0].source}: {problems[0].reason}, and so on")
    hours = sum(window.duration for shard in shards for window in shard) / 3600
    console.info(f"{num_windows} windows, {hours:.2f} h of audio, {len(problems)} skipped")

    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    identity_settings = {
        name: value
        for name, value in asdict(settings).items()
        if name
        not in (
            "output",
            "manifest",
            "teacher",
            "device",
            "strict",
            "dtype",
            "packing_variants",
            "workers",
            "ray_address",
        )
    }
    if (settings.output / MANIFEST).exists():  # it decides rounding alone, and out of memory one has to go on with less
        identity_settings["batch_size"] = open_labels(settings.output).settings.get("batch_size", settings.batch_size)
    header: dict[str, object] = {
        "settings": {**identity_settings, "dtype": str(dtype).removeprefix("torch.")},
        "teacher": {
            "source": checkpoint.source,
            "sha256": checkpoint.sha256,
            "encoder_sha256": checkpoint.encoder_sha256,
            "vocab": checkpoint.dims.vocab_size,
            "width": checkpoint.dims.width,
        },
    }
    shard_specs = {
        name: ShardSpec(name, shard, hash_windows(_label_inputs(window, settings) for window in shard))
        for name, shard in ((f"{index:05d}", shard) for index, shard in enumerate(shards))
    }
    store_writer = LabelStoreWriter(
        settings.output, header, {name: spec.windows_hash for name, spec in shard_specs.items()}
    )
    skipped_jsonl = "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems)
    atomic_write(settings.output / "skipped.jsonl", skipped_jsonl)

    finished_shards = {
        name: shard
        for name, shard in store_writer.finished_shards.items()
        if not _skipped_are_readable(shard.skipped, shard_specs[name].windows)
    }
    pending_shards = [spec for name, spec in shard_specs.items() if name not in finished_shards]
    job = LabelJob(
        teacher=settings.teacher,
        device=device,
        dtype=dtype,
        timestamps=settings.timestamps,
        use_references=settings.label_source == "reference",
        batch_size=settings.batch_size,
        top_k=settings.top_k,
        states_dtype=settings.encoder_states,
        max_new_tokens=settings.max_new_tokens,
        output=settings.output.absolute(),
    )
    start_time = time.monotonic()
    seconds, encoder_windows = 0.0, 0
    with console.progress(
        "labelling", sum(window.duration for spec in pending_shards for window in spec.windows) / 3600, "h"
    ) as bar:
        if settings.workers:
            threads = max(1, torch.get_num_threads() // settings.workers)
            for shard in label_with_ray(job, pending_shards, settings.workers, settings.ray_address, threads):
                store_writer.add_shard(shard)
                bar.advance(shard.hours)
                seconds, encoder_windows = seconds + shard.hours * 3600, encoder_windows + shard.num_windows
        elif pending_shards:
            shard_writer = ShardWriter(job)
            for spec in pending_shards:
                shard = shard_writer.write_shard(spec, lambda done_seconds: bar.advance(done_seconds / 3600))
                store_writer.add_shard(shard)
                seconds += shard.hours * 3600
            encoder_windows = shard_writer.teacher.windows_encoded
    elapsed_seconds = time.monotonic() - start_time

    store = open_labels(settings.output)
    problems += [Skipped(**entry) for shard in store.shards for entry in shard.skipped]
    edits = NO_EDITS
    for label in store.read_labels():
        for quality in label.quality:
            edits = edits + (quality.edits or NO_EDITS)
    report = LabelReport(
        output=str(settings.output),
        windows=sum(shard.num_windows for shard in store.shards),
        hours=sum(shard.hours for shard in store.shards),
        encoder_windows=encoder_windows,
        resumed_windows=sum(shard.num_windows for shard in finished_shards.values()),
        seconds=elapsed_seconds,
        speed=seconds / elapsed_seconds if pending_shards else 0.0,
        wer=100 * edits.error_rate if edits.reference_length else None,
        problems=tuple(problems),
    )
    atomic_write(settings.output / "report.json", json.dumps(asdict(report), indent=1))
    wer_note = "" if report.wer is None else f", WER against the references {report.wer:.1f} %"
    console.info(
        f"labelled {report.windows} windows, {report.hours:.2f} h ({report.resumed_windows} were finished before, "
        f"{report.speed:.0f}x real time){wer_note}"
    )
    if problems:
        console.warn(f"{len(problems)} skipped, listed in {settings.output / 'skipped.jsonl'}")
        skipped_jsonl = "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems)
        atomic_write(settings.output / "skipped.jsonl", skipped_jsonl)
    return report


def _check(settings: LabelSettings) -> None:
    problems = []
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        problems.append("torchrun is for train alone: label with several processes by --workers")
    if not settings.manifest:
        problems.append("manifest must name at least one corpus")
    resolved_sources = [
        source if is_remote(source) or source.startswith("hf:") else os.path.realpath(source)
        for source in settings.manifest
    ]
    if len(set(resolved_sources)) < len(resolved_sources):
        duplicate = next(source for index, source in enumerate(resolved_sources) if source in resolved_sources[:index])
        problems.append(f"manifest names {duplicate} twice: each corpus is labelled once")
    if not 0 < settings.max_packed_seconds <= 30:
        problems.append(
            f"max_packed_seconds must be above 0 and at most 30 seconds, got {settings.max_packed_seconds:g}"
        )
    if settings.min_packed_seconds is not None and not 0 <= settings.min_packed_seconds <= settings.max_packed_seconds:
        problems.append(
            f"min_packed_seconds must be 0 to max_packed_seconds ({settings.max_packed_seconds:g}), "
            f"got {settings.min_packed_seconds:g}"
        )
    if settings.timestamps and settings.label_source == "reference":
        problems.append("timestamps are the teacher's: there are none with label_source reference")
    if settings.top_k < 0:
        problems.append(f"top_k must be at least 0, got {settings.top_k}")
    if settings.workers < 0:
        problems.append(f"workers must be at least 0, got {settings.workers}")
    for name in ("packing_variants", "batch_size", "shard_windows", "max_new_tokens"):
        if getattr(settings, name) < 1:
            problems.append(f"{name} must be at least 1, got {getattr(settings, name)}")
    if problems:
        raise SettingsError("; ".join(problems))
