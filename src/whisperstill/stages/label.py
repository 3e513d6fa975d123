"""`whisperstill label`: the teacher visits every window of a corpus once and leaves all that a student needs."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.errors import CorpusError, SettingsError
from whisperstill.files import write_whole
from whisperstill.records import Skipped, Utterance, Window
from whisperstill.remote import is_remote
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
    transcripts: Literal["teacher", "corpus"] = "teacher"
    """Whose words the labels are. `corpus`: the teacher reads the corpus's own and says how probable they are; with
    capitals and punctuation they teach best."""
    top: int = 32
    """Largest logits kept per token, for the KL loss; 0 keeps none."""
    states: Literal["none", "fp32", "bf16", "int8"] = "none"
    """Keep the encoder's states (and the decoder's last hidden states), so that training needs no encoder."""
    packings: int = 1
    """Ways of packing the same utterances into windows: 1 is recording order, more are reshuffled views."""
    max_window: float = 30.0
    """Most seconds of audio packed into a window."""
    min_window: float | None = None
    """Reshuffled views fill each window to a length drawn between this and `max_window` seconds: short clips occur
    too. Default: all windows are filled as far as they can be."""
    batch_size: int = 16
    """Windows decoded at a time."""
    shard_windows: int = 64
    """Windows per shard of the store: what an interruption may cost."""
    max_new_tokens: int = 224
    """Most tokens of one window."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation; `auto` takes bf16 where the hardware multiplies it fast."""
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


def _read_from(window: Window, settings: LabelSettings) -> str:
    """What a window's labels come from: its sound, and its transcripts where those are read."""
    texts = [one.text for one in window.utterances] if settings.transcripts == "corpus" else []
    return "\n".join([window.id, *map(str, texts)])


def _usable(
    source: str, utterances: tuple[Utterance, ...], settings: LabelSettings, vocabulary: "Vocabulary"
) -> tuple[tuple[Utterance, ...], list[Skipped]]:
    """What the teacher can label of a corpus, and why not the rest."""
    from whisperstill.text.languages import language_code

    def against(one: Utterance) -> str | None:
        if settings.transcripts == "corpus" and not (one.text and one.audio.duration <= settings.max_window):
            return f"no transcript to read, or longer than {settings.max_window:g} s"
        try:
            known = one.language is None or language_code(one.language) in (vocabulary.languages or ("en",))
        except SettingsError:
            known = False
        return None if known else f"the teacher does not know its language, {one.language}"

    reasons = [(one, against(one)) for one in utterances]
    return (
        tuple(one for one, reason in reasons if reason is None),
        [Skipped(f"{source}: {one.id}", reason) for one, reason in reasons if reason is not None],
    )


def _name_among(names: set[str], name: str, source: str) -> str:
    """A corpus's name, with those of the folders above it until no corpus before it is called so."""
    folders = [part for part in source.replace("\\", "/").split("/")[:-1] if part not in ("", ".", "..")]
    if folders and folders[-1] == name:
        folders.pop()
    for folder in reversed(folders):
        if name not in names:
            return name
        name = f"{folder}-{name}"
    if name in names:
        raise SettingsError(
            f"two corpora are called {name}, the second is {source}: name each once, or rename a folder"
        )
    return name


def _heard_now(skipped: list[dict[str, str]], windows: Sequence[Window]) -> bool:
    """Whether anything that a finished shard had to leave out can be heard by now (a disk is back, a server up)."""
    from whisperstill.corpus.waveform import utterance_waveform
    from whisperstill.errors import AudioError

    gone = {entry["source"] for entry in skipped}
    for utterance in (one for window in windows for one in window.utterances) if gone else ():
        if f"{utterance.corpus}/{utterance.id}" in gone:
            try:
                utterance_waveform(utterance)
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
    from whisperstill.corpus.long import split_long
    from whisperstill.corpus.packing import pack
    from whisperstill.label.labeller import Labeller, Planned, Work
    from whisperstill.label.ray_workers import label_with_ray
    from whisperstill.label.store import MANIFEST, StoreWriter, open_labels, plan_hash
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.records.edits import NO_EDITS
    from whisperstill.text.vocabulary import Vocabulary

    _check(settings)
    checkpoint = load_checkpoint(settings.teacher)
    problems: list[Skipped] = []
    shards: list[list[Window]] = []
    views: set[tuple[Utterance, ...]] = set()
    names: set[str] = set()
    for source in settings.manifest:
        corpus = read_corpus(source, layout=settings.layout, language=settings.language)
        problems += corpus.skipped
        usable, unusable = _usable(source, corpus.utterances, settings, Vocabulary.of(checkpoint.dims.vocab))
        problems += unusable
        if (name := _name_among(names, corpus.name, source)) != corpus.name:
            usable = tuple(replace(one, corpus=name) for one in usable)
        names.add(name)
        utterances, notes = split_long(usable, settings.max_window)
        problems += notes
        for packing in range(settings.packings):
            packed = pack(
                utterances,
                max_seconds=settings.max_window,
                min_seconds=settings.min_window,
                packing=packing,
                seed=settings.seed,
            )
            # A reshuffled view that happens to be one of the views before would only be heard twice.
            windows = [window for window in packed if window.utterances not in views]
            views.update(window.utterances for window in windows)
            size = settings.shard_windows
            shards += [windows[at : at + size] for at in range(0, len(windows), size)]
    planned = sum(len(shard) for shard in shards)
    if not planned:
        raise CorpusError(f"nothing is left to label: {problems[0].source}: {problems[0].reason}, and so on")
    hours = sum(window.duration for shard in shards for window in shard) / 3600
    console.info(f"{planned} windows, {hours:.2f} h of audio, {len(problems)} skipped")

    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    decisive = {
        name: value
        for name, value in asdict(settings).items()
        if name
        not in ("output", "manifest", "teacher", "device", "strict", "dtype", "packings", "workers", "ray_address")
    }
    if settings.transcripts == "teacher":
        del decisive["transcripts"]  # as in stores that were made before there was a choice
    if (settings.output / MANIFEST).exists():  # it decides rounding alone, and out of memory one has to go on with less
        decisive["batch_size"] = open_labels(settings.output).settings.get("batch_size", settings.batch_size)
    header: dict[str, object] = {
        "settings": {**decisive, "dtype": str(dtype).removeprefix("torch.")},
        "teacher": {
            "source": checkpoint.source,
            "sha256": checkpoint.sha256,
            "encoder_sha256": checkpoint.encoder_sha256,
            "vocab": checkpoint.dims.vocab,
            "width": checkpoint.dims.width,
        },
    }
    plan = {
        name: Planned(name, shard, plan_hash(_read_from(window, settings) for window in shard))
        for name, shard in ((f"{index:05d}", shard) for index, shard in enumerate(shards))
    }
    writer = StoreWriter(settings.output, header, {name: one.plan for name, one in plan.items()})
    skipped = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in problems)
    write_whole(settings.output / "skipped.jsonl", skipped)

    done = {name: shard for name, shard in writer.finished.items() if not _heard_now(shard.skipped, plan[name].windows)}
    todo = [one for name, one in plan.items() if name not in done]
    work = Work(
        teacher=settings.teacher,
        device=device,
        dtype=dtype,
        timestamps=settings.timestamps,
        reads=settings.transcripts == "corpus",
        batch_size=settings.batch_size,
        top=settings.top,
        states=settings.states,
        max_new_tokens=settings.max_new_tokens,
        output=settings.output.absolute(),
    )
    begun = time.monotonic()
    seconds, encoded = 0.0, 0
    with console.progress("labelling", sum(w.duration for one in todo for w in one.windows) / 3600, "h") as bar:
        if settings.workers:
            threads = max(1, torch.get_num_threads() // settings.workers)
            for shard in label_with_ray(work, todo, settings.workers, settings.ray_address, threads):
                writer.add(shard)
                bar.advance(shard.hours)
                seconds, encoded = seconds + shard.hours * 3600, encoded + shard.windows
        elif todo:
            labeller = Labeller(work)
            for one in todo:
                shard = labeller.label(one, lambda done_seconds: bar.advance(done_seconds / 3600))
                writer.add(shard)
                seconds += shard.hours * 3600
            encoded = labeller.teacher.windows_encoded
    took = time.monotonic() - begun

    store = open_labels(settings.output)
    problems += [Skipped(**entry) for shard in store.shards for entry in shard.skipped]
    edits = NO_EDITS
    for labelled in store.labelled():
        for seen in labelled.evidence:
            edits = edits + (seen.edits or NO_EDITS)
    report = LabelReport(
        output=str(settings.output),
        windows=sum(shard.windows for shard in store.shards),
        hours=sum(shard.hours for shard in store.shards),
        encoder_windows=encoded,
        resumed_windows=sum(shard.windows for shard in done.values()),
        seconds=took,
        speed=seconds / took if todo else 0.0,
        wer=100 * edits.rate if edits.reference else None,
        problems=tuple(problems),
    )
    write_whole(settings.output / "report.json", json.dumps(asdict(report), indent=1))
    against = "" if report.wer is None else f", WER against the references {report.wer:.1f} %"
    console.info(
        f"labelled {report.windows} windows, {report.hours:.2f} h ({report.resumed_windows} were finished before, "
        f"{report.speed:.0f}x real time){against}"
    )
    if problems:
        console.warn(f"{len(problems)} skipped, listed in {settings.output / 'skipped.jsonl'}")
        skipped = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in problems)
        write_whole(settings.output / "skipped.jsonl", skipped)
    return report


def _check(settings: LabelSettings) -> None:
    problems = []
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        problems.append("torchrun is for train alone: label with several processes by --workers")
    if not settings.manifest:
        problems.append("manifest must name at least one corpus")
    named = [
        source if is_remote(source) or source.startswith("hf:") else os.path.realpath(source)
        for source in settings.manifest
    ]
    if len(set(named)) < len(named):
        twice = next(source for at, source in enumerate(named) if source in named[:at])
        problems.append(f"manifest names {twice} twice: each corpus is labelled once")
    if not 0 < settings.max_window <= 30:
        problems.append(f"max_window must be above 0 and at most 30 seconds, got {settings.max_window:g}")
    if settings.min_window is not None and not 0 <= settings.min_window <= settings.max_window:
        problems.append(f"min_window must be 0 to max_window ({settings.max_window:g}), got {settings.min_window:g}")
    if settings.timestamps and settings.transcripts == "corpus":
        problems.append("timestamps are the teacher's: there are none with transcripts corpus")
    if settings.top < 0:
        problems.append(f"top must be at least 0, got {settings.top}")
    if settings.workers < 0:
        problems.append(f"workers must be at least 0, got {settings.workers}")
    for name in ("packings", "batch_size", "shard_windows", "max_new_tokens"):
        if getattr(settings, name) < 1:
            problems.append(f"{name} must be at least 1, got {getattr(settings, name)}")
    if problems:
        raise SettingsError("; ".join(problems))
