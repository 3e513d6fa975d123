"""Labelling one shard: load windows, run the teacher, gather rows and tensors, write files.

Batches never cross shards and their order is fixed by the plan, so a shard's content does not depend on which process
labels it, on the shards labelled before it, or on how often the run was interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from whisperstill.label.teacher import label_batch
from whisperstill.label.topk_store import TOPK_SCHEMA, TopKRow, topk_to_row
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.records import Skipped, Window

IndexedWindow: TypeAlias = tuple[int, Window]
"""A window and its position in the shard."""


@dataclass(slots=True)
class _ShardContent:
    """Rows by the window's position in the shard, and tensors by key."""

    label_rows: dict[int, LabelRow] = field(default_factory=dict)
    topk_rows: dict[int, TopKRow] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def tables(self, with_topk: bool) -> dict[str, pa.Table]:
        """Arrow tables in the order of the plan, by the prefix of their file name."""
        tables = {"labels": pa.Table.from_pylist([row for _, row in sorted(self.label_rows.items())], LABELS_SCHEMA)}
        if with_topk:
            tables["topk"] = pa.Table.from_pylist([row for _, row in sorted(self.topk_rows.items())], TOPK_SCHEMA)
        return tables


class ShardWriter:
    """A loaded teacher that labels shards and writes their files."""

    def __init__(self, settings: LabelSettings, device: str, dtype: torch.dtype) -> None:
        self.settings = settings
        self.teacher = WhisperModel(load_checkpoint(settings.teacher), device=device, dtype=dtype)

    def write_shard(self, shard: ShardSpec, on_progress: Callable[[float], None] = lambda seconds: None) -> Shard:
        """Label a shard and write its files; the caller records the returned shard in the manifest.

        Utterances that cannot be decoded are left out and listed. `on_progress` gets the seconds of audio labelled.
        """
        content = _ShardContent()
        skipped: list[Skipped] = []
        # 1. Group windows of similar length: a batch takes as long as its longest member.
        ordered = sorted(enumerate(shard.windows), key=lambda indexed: -indexed[1].duration)
        batch_size = self.settings.batch_size
        batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        # 2. Label each batch while the next one is decoded.
        for batch, (windows, waveforms, unreadable) in zip(batches, read_ahead(batches, _load_batch), strict=True):
            skipped += unreadable
            if windows:
                self._label_batch(shard.name, windows, waveforms, content)
            on_progress(sum(window.duration for _, window in batch))
        # 3. Write the files.
        tables = content.tables(with_topk=self.settings.top_k > 0)
        files = write_shard_files(self.settings.output, shard.name, tables, content.tensors)
        return Shard(
            name=shard.name,
            num_windows=len(content.label_rows),
            hours=content.seconds / 3600,
            files=files,
            skipped=[asdict(entry) for entry in skipped],
            windows_hash=shard.windows_hash,
        )

    def _label_batch(
        self, shard: str, windows: Sequence[IndexedWindow], waveforms: Sequence[Waveform], content: _ShardContent
    ) -> None:
        outputs = label_batch(
            self.teacher,
            self.settings,
            torch.stack([torch.from_numpy(waveform) for waveform in waveforms]),
            [window.language for _, window in windows],
            [_reference_text(window) for _, window in windows],
        )
        tokenizer, vocabulary = self.teacher.tokenizer, self.teacher.vocabulary
        states_dtype = self.settings.encoder_states
        for (position, window), output in zip(windows, outputs, strict=True):
            label = build_pseudo_label(
                window, output, tokenizer, vocabulary, timestamps=self.settings.timestamps, shard=shard
            )
            if self.settings.label_source == "reference":  # edits of the reference against itself mean nothing
                label = replace(label, quality=tuple(replace(quality, edits=None) for quality in label.quality))
            content.label_rows[position] = label_to_row(label)
            stats = output.result.token_stats
            if self.settings.top_k:
                targets = label.tokens + ((vocabulary.end_of_text,) if label.ended else ())
                content.topk_rows[position] = topk_to_row(window.id, targets, stats)
            if states_dtype != "none":
                for suffix, tensor in serialize_states(output.encoder_states, states_dtype).items():
                    content.tensors[window.id + suffix] = tensor
                hidden_dtype = torch.float32 if states_dtype == "float32" else torch.bfloat16
                content.tensors[f"{window.id}/hidden"] = stats.hidden.to(hidden_dtype).contiguous()
        content.seconds += sum(window.duration for _, window in windows)


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


def _reference_text(window: Window) -> str:
    return " ".join((utterance.text or "").strip() for utterance in window.utterances)
