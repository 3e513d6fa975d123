"""`whisperstill label`: a teacher labels every window of a corpus once, with everything a student is trained on."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill.atomic_io import atomic_write
from whisperstill.console import SILENT, Console
from whisperstill.label.settings import LabelSettings, check_label_settings
from whisperstill.records import Skipped

if TYPE_CHECKING:
    import torch

    from whisperstill.label.shard_plan import ShardSpec
    from whisperstill.label.store import LabelStore, Shard

__all__ = ["LabelReport", "LabelSettings", "run"]


@dataclass(frozen=True)
class LabelReport:
    """Totals of a label store, and of the run that finished it."""

    output: str
    windows: int
    hours: float
    encoder_windows: int
    """Windows labelled in this run; the teacher's encoder ran once for each."""
    resumed_windows: int
    """Windows that were already labelled."""
    seconds: float
    """Wall time of labelling in this run."""
    speed: float
    """Hours of audio labelled per hour, in this run; 0 when nothing was left to label."""
    wer: float | None
    """Word error rate of the labels against the references, per cent; None without references."""
    problems: tuple[Skipped, ...]


def run(settings: LabelSettings, console: Console = SILENT) -> LabelReport:
    """Label a corpus, or resume an interrupted run.

    Raises `SettingsError`, `CorpusError`, `CheckpointError`, `NotFoundError`, `StoreError`.
    """
    from whisperstill.label.shard_plan import plan_shards
    from whisperstill.label.store import open_labels
    from whisperstill.label.store_writer import LabelStoreWriter, build_header
    from whisperstill.model.checkpoints import load_checkpoint
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.text.vocabulary import Vocabulary

    # 1. Plan the shards.
    check_label_settings(settings)
    checkpoint = load_checkpoint(settings.teacher)
    specs, skipped = plan_shards(settings, Vocabulary.from_size(checkpoint.dims.vocab_size))
    hours = sum(spec.duration for spec in specs) / 3600
    console.info(f"{sum(len(spec.windows) for spec in specs)} windows, {hours:.2f} h of audio, {len(skipped)} skipped")

    # 2. Open the store, and find the shards that are missing.
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    header = build_header(settings, checkpoint, dtype)
    store_writer = LabelStoreWriter(settings.output, header, {spec.name: spec.windows_hash for spec in specs})
    _write_skipped(settings.output, skipped)
    pending = [spec for spec in specs if _needs_labelling(spec, store_writer.shards.get(spec.name))]

    # 3. Label them.
    start_time = time.monotonic()
    labelled: list[Shard] = []
    with console.progress("labelling", sum(spec.duration for spec in pending) / 3600, "h") as bar:
        for shard in _label_shards(settings, device, dtype, pending, lambda seconds: bar.advance(seconds / 3600)):
            store_writer.add_shard(shard)
            labelled.append(shard)
    elapsed_seconds = time.monotonic() - start_time

    # 4. Report.
    report = _build_report(open_labels(settings.output), skipped, labelled, elapsed_seconds)
    atomic_write(settings.output / "report.json", json.dumps(asdict(report), indent=1))
    wer_note = "" if report.wer is None else f", WER against the references {report.wer:.1f} %"
    console.info(
        f"labelled {report.windows} windows, {report.hours:.2f} h ({report.resumed_windows} were finished before, "
        f"{report.speed:.0f}x real time){wer_note}"
    )
    if report.problems:
        console.warn(f"{len(report.problems)} skipped, listed in {settings.output / 'skipped.jsonl'}")
        _write_skipped(settings.output, report.problems)
    return report


def _needs_labelling(spec: "ShardSpec", finished: "Shard | None") -> bool:
    """Whether a shard is missing, or left out audio that can be decoded by now (a disk or server was unavailable)."""
    from whisperstill.corpus.loading import load_waveforms

    if finished is None:
        return True
    skipped = {entry["source"] for entry in finished.skipped}
    utterances = (utterance for window in spec.windows for utterance in window.utterances) if skipped else ()
    candidates = (utterance for utterance in utterances if f"{utterance.corpus}/{utterance.id}" in skipped)
    return any(load_waveforms([utterance])[0] for utterance in candidates)


def _label_shards(
    settings: LabelSettings,
    device: str,
    dtype: "torch.dtype",
    shards: "Sequence[ShardSpec]",
    on_progress: Callable[[float], None],
) -> "Iterator[Shard]":
    """Finished shards whose files are written. `on_progress` gets seconds of audio."""
    if settings.workers:
        from whisperstill.label.ray_workers import label_with_ray

        for shard in label_with_ray(settings, device, dtype, shards):
            yield shard
            on_progress(shard.hours * 3600)
    elif shards:
        from whisperstill.label.shard_writer import ShardWriter

        shard_writer = ShardWriter(settings, device, dtype)
        for spec in shards:
            yield shard_writer.write_shard(spec, on_progress)


def _build_report(
    store: "LabelStore", skipped: Sequence[Skipped], labelled: "Sequence[Shard]", elapsed_seconds: float
) -> LabelReport:
    from whisperstill.records.edit_counts import NO_EDITS

    edits = NO_EDITS
    for label in store.read_labels():
        for quality in label.quality:
            edits = edits + (quality.edits or NO_EDITS)
    labelled_names = {shard.name for shard in labelled}
    labelled_seconds = sum(shard.hours for shard in labelled) * 3600
    return LabelReport(
        output=str(store.directory),
        windows=sum(shard.num_windows for shard in store.shards),
        hours=sum(shard.hours for shard in store.shards),
        encoder_windows=sum(shard.num_windows for shard in labelled),
        resumed_windows=sum(shard.num_windows for shard in store.shards if shard.name not in labelled_names),
        seconds=elapsed_seconds,
        speed=labelled_seconds / elapsed_seconds if labelled else 0.0,
        wer=100 * edits.error_rate if edits.reference_length else None,
        problems=(*skipped, *(Skipped(**entry) for shard in store.shards for entry in shard.skipped)),
    )


def _write_skipped(directory: Path, skipped: Iterable[Skipped]) -> None:
    lines = (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in skipped)
    atomic_write(directory / "skipped.jsonl", "".join(lines))
