"""Labelling one shard: load windows, run the teacher, gather rows and tensors, write files.

Batches never cross shards and their order is fixed by the plan, so a shard's content does not depend on which process
labels it, on the shards labelled before it, or on how often the run was interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TypeAlias

import pyarrow as pa
import torch
from torch import Tensor

from whisperstill.corpus.loading import Waveform, join_waveforms, load_waveforms, read_ahead
from whisperstill.corpus.packing import window_id
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.label.label_quality import build_pseudo_label
from whisperstill.label.settings import LabelSettings
from whisperstill.label.shard_plan import ShardSpec
from whisperstill.label.store import LABELS_SCHEMA, LabelRow, Shard, label_to_row
from whisperstill.label.store_writer import write_shard_files
from whisperstill.label.teacher import TeacherOutput, label_batch
from whisperstill.label.topk_store import TOPK_SCHEMA, TopKRow, topk_to_row
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records import PseudoLabel, Skipped, Window

IndexedWindow: TypeAlias = tuple[int, Window]
"""A window and its position in the shard."""


class ShardWriter:
    """A loaded teacher that labels shards and writes their files."""

    def __init__(self, settings: LabelSettings, device: str, dtype: torch.dtype) -> None:
        self.settings = settings
        self.teacher = WhisperModel(load_checkpoint(settings.teacher), device=device, dtype=dtype)

    def write_shard(self, shard: ShardSpec, on_progress: Callable[[float], None] = lambda seconds: None) -> Shard:
        """Label a shard and write its files; the caller records the returned shard in the manifest.

        Utterances that cannot be decoded are left out and listed. `on_progress` gets the seconds of audio labelled.
        """
        label_rows: dict[int, LabelRow] = {}
        topk_rows: dict[int, TopKRow] = {}
        tensors: dict[str, Tensor] = {}
        skipped: list[Skipped] = []
        seconds = 0.0
        # 1. Group windows of similar length: a batch takes as long as its longest member.
        ordered = sorted(enumerate(shard.windows), key=lambda indexed: -indexed[1].duration)
        batch_size, top_k = self.settings.batch_size, self.settings.top_k
        batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        # 2. Label each batch while the next one is decoded.
        for batch, (windows, waveforms, unreadable) in zip(batches, read_ahead(batches, _load_batch), strict=True):
            skipped += unreadable
            outputs = self._run_teacher([window for _, window in windows], waveforms) if windows else []
            for (position, window), output in zip(windows, outputs, strict=True):
                label = self._build_label(window, output, shard.name)
                label_rows[position] = label_to_row(label)
                if top_k:
                    targets = label.tokens + ((self.teacher.vocabulary.end_of_text,) if label.ended else ())
                    topk_rows[position] = topk_to_row(window.id, targets, output.result.token_stats)
                if self.settings.encoder_states != "none":
                    tensors |= state_tensors(window.id, output, self.settings.encoder_states)
            seconds += sum(window.duration for _, window in windows)
            on_progress(sum(window.duration for _, window in batch))
        # 3. Write the files, with rows in the order of the plan.
        tables = {"labels": pa.Table.from_pylist([row for _, row in sorted(label_rows.items())], LABELS_SCHEMA)}
        if top_k:
            tables["topk"] = pa.Table.from_pylist([row for _, row in sorted(topk_rows.items())], TOPK_SCHEMA)
        return Shard(
            name=shard.name,
            num_windows=len(label_rows),
            hours=seconds / 3600,
            files=write_shard_files(self.settings.output, shard.name, tables, tensors),
            skipped=[asdict(entry) for entry in skipped],
            windows_hash=shard.windows_hash,
        )

    def _run_teacher(self, windows: Sequence[Window], waveforms: Sequence[Waveform]) -> list[TeacherOutput]:
        samples = torch.stack([torch.from_numpy(waveform) for waveform in waveforms])
        languages = [window.language for window in windows]
        references = [" ".join((u.text or "").strip() for u in window.utterances) for window in windows]
        return label_batch(self.teacher, self.settings, samples, languages, references)

    def _build_label(self, window: Window, output: TeacherOutput, shard: str) -> PseudoLabel:
        tokenizer, vocabulary = self.teacher.tokenizer, self.teacher.vocabulary
        timestamps = self.settings.timestamps
        label = build_pseudo_label(window, output, tokenizer, vocabulary, timestamps=timestamps, shard=shard)
        if self.settings.label_source == "reference":  # edits of the reference against itself mean nothing
            label = replace(label, quality=tuple(replace(quality, edits=None) for quality in label.quality))
        return label


def state_tensors(window_id: str, output: TeacherOutput, states_dtype: str) -> dict[str, Tensor]:
    """Encoder states and last hidden states of a window as stored, by key."""
    tensors = {window_id + suffix: t for suffix, t in serialize_states(output.encoder_states, states_dtype).items()}
    hidden_dtype = torch.float32 if states_dtype == "float32" else torch.bfloat16
    hidden = output.result.token_stats.hidden.to(hidden_dtype).contiguous()
    return tensors | {f"{window_id}/hidden": hidden}


def serialize_states(encoder_states: Tensor, states_dtype: str) -> dict[str, Tensor]:
    """Encoder states as stored, by key suffix: `""` the values, for int8 also `"/scale"`, one scale per position.

    int8 divides the largest magnitude of a position into 127 steps; the error is at most scale / 2.
    """
    if states_dtype == "float32":
        return {"": encoder_states.float().contiguous()}
    if states_dtype == "bfloat16":
        return {"": encoder_states.to(torch.bfloat16).contiguous()}
    scale = encoder_states.float().abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return {"": (encoder_states.float() / scale).round().to(torch.int8).contiguous(), "/scale": scale.contiguous()}


def _load_batch(batch: Sequence[IndexedWindow]) -> tuple[list[IndexedWindow], list[Waveform], list[Skipped]]:
    """Readable windows, their waveforms, and skipped utterances; a window that loses an utterance keeps the others."""
    windows: list[IndexedWindow] = []
    window_waveforms: list[Waveform] = []
    skipped: list[Skipped] = []
    for position, window in batch:
        readable, waveforms, unreadable = load_waveforms(window.utterances)
        skipped += unreadable
        if not readable:
            continue
        if unreadable:
            window = Window(window_id(window.packing_variant, readable), tuple(readable), window.packing_variant)
        windows.append((position, window))
        window_waveforms.append(join_waveforms(window, waveforms))
    return windows, window_waveforms, skipped
