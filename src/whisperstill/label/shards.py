"""Labelling one shard of windows: load, visit, gather, hand to the store.

Batches never cross shards and their order is fixed by the plan, so a shard's content does not depend on which
shards were made before it, in which run, or on how often the run was killed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from whisperstill.corpus.loading import load_utterance_waveform, load_window_waveform
from whisperstill.corpus.packing import window_id
from whisperstill.errors import AudioError
from whisperstill.label.label_quality import build_pseudo_label
from whisperstill.label.store_schema import LABELS_SCHEMA, TOPK_SCHEMA, label_to_row, topk_to_row
from whisperstill.label.teacher import Teacher, TeacherOutput
from whisperstill.records import Window

STATES = ("none", "float32", "bfloat16", "int8")


@dataclass(frozen=True, slots=True)
class ShardContent:
    """What a shard holds, ready to be written."""

    tables: dict[str, pa.Table]
    tensors: dict[str, Tensor]
    skipped: list[dict[str, str]]
    num_windows: int
    seconds: float


@dataclass
class _ShardBuffer:
    """Rows by the window's place in the plan."""

    labels: dict[int, dict[str, object]] = field(default_factory=dict)
    topk: dict[int, dict[str, object]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def serialize_states(encoder_states: Tensor, states_dtype: str) -> dict[str, Tensor]:
    """States as they are kept: `""` the values, `"/scale"` the scale of each position for int8.

    int8 keeps 127 steps of the largest magnitude at each position: an error of at most scale / 2.
    """
    if states_dtype == "float32":
        return {"": encoder_states.float().contiguous()}
    if states_dtype == "bfloat16":
        return {"": encoder_states.to(torch.bfloat16).contiguous()}
    scale = encoder_states.float().abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return {"": (encoder_states.float() / scale).round().to(torch.int8).contiguous(), "/scale": scale.contiguous()}


def label_shard(
    teacher: Teacher,
    name: str,
    windows: Sequence[Window],
    *,
    batch_size: int,
    top_k: int,
    states_dtype: str,
    max_new_tokens: int,
    on_progress: Callable[[float], None],
) -> ShardContent:
    """Visit every window of a shard once. Utterances whose audio cannot be decoded are left out and listed."""
    skipped: list[dict[str, str]] = []
    buffer = _ShardBuffer()
    # Windows of like length run together: a batch is as slow as its longest member.
    ordered = sorted(enumerate(windows), key=lambda indexed: -indexed[1].duration)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    num_windows, seconds = 0, 0.0
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(_load_batch, batches[0]) if batches else None
        for batch_index in range(len(batches)):
            assert pending is not None
            loaded, waveforms, failed = pending.result()
            pending = reader.submit(_load_batch, batches[batch_index + 1]) if batch_index + 1 < len(batches) else None
            skipped += failed
            if loaded:
                languages = [window.language for _, window in loaded]
                teacher_outputs = teacher.label_batch(
                    torch.from_numpy(waveforms),
                    languages,
                    top_k=max(1, top_k),
                    max_new_tokens=max_new_tokens,
                    references=[_reference_text(window) for _, window in loaded] if teacher.use_references else (),
                )
                for (window_index, window), teacher_output in zip(loaded, teacher_outputs, strict=True):
                    _add_to_buffer(buffer, teacher, name, window_index, window, teacher_output, top_k, states_dtype)
                num_windows += len(loaded)
                seconds += sum(window.duration for _, window in loaded)
            on_progress(sum(window.duration for _, window in batches[batch_index]))
    tables = {"labels": pa.Table.from_pylist([row for _, row in sorted(buffer.labels.items())], schema=LABELS_SCHEMA)}
    if top_k:
        tables["topk"] = pa.Table.from_pylist([row for _, row in sorted(buffer.topk.items())], schema=TOPK_SCHEMA)
    return ShardContent(tables, buffer.tensors, skipped, num_windows, seconds)


def _reference_text(window: Window) -> str:
    """The transcripts of a window's utterances."""
    return " ".join((utterance.text or "").strip() for utterance in window.utterances)


def _load_batch(
    indexed_windows: Sequence[tuple[int, Window]],
) -> tuple[list[tuple[int, Window]], npt.NDArray[np.float32], list[dict[str, str]]]:
    """Waveforms of windows; a window that loses an utterance becomes a window of the others."""
    loaded: list[tuple[int, Window]] = []
    waveforms, failed = [], []
    for window_index, window in indexed_windows:
        try:
            waveform = load_window_waveform(window)
        except AudioError:
            readable = []
            for utterance in window.utterances:
                try:
                    load_utterance_waveform(utterance)
                    readable.append(utterance)
                except AudioError as error:
                    failed.append({"source": f"{utterance.corpus}/{utterance.id}", "reason": str(error)})
            if not readable:
                continue
            window = Window(window_id(window.packing_variant, readable), tuple(readable), window.packing_variant)
            waveform = load_window_waveform(window)
        loaded.append((window_index, window))
        waveforms.append(waveform)
    return loaded, np.stack(waveforms) if waveforms else np.zeros((0, 0), np.float32), failed


def _add_to_buffer(
    buffer: _ShardBuffer,
    teacher: Teacher,
    shard: str,
    window_index: int,
    window: Window,
    teacher_output: TeacherOutput,
    top_k: int,
    states_dtype: str,
) -> None:
    label = build_pseudo_label(
        window, teacher_output, teacher.tokenizer, teacher.vocabulary, timestamps=teacher.timestamps, shard=shard
    )
    if teacher.use_references:  # a text is no reference for itself
        label = replace(label, quality=tuple(replace(quality, edits=None) for quality in label.quality))
    buffer.labels[window_index] = label_to_row(label)
    targets = label.tokens + ((teacher.vocabulary.end_of_text,) if label.ended else ())
    if top_k:
        buffer.topk[window_index] = topk_to_row(window.id, targets, teacher_output.result.token_stats)
    if states_dtype != "none":
        for suffix, tensor in serialize_states(teacher_output.encoder_states, states_dtype).items():
            buffer.tensors[window.id + suffix] = tensor
        hidden_dtype = torch.float32 if states_dtype == "float32" else torch.bfloat16
        buffer.tensors[f"{window.id}/hidden"] = teacher_output.result.token_stats.hidden.to(hidden_dtype).contiguous()
