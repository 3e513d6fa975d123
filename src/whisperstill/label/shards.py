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

from whisperstill.corpus.packing import window_id
from whisperstill.corpus.waveform import utterance_waveform, window_waveform
from whisperstill.errors import AudioError
from whisperstill.label.evidence import labelled
from whisperstill.label.schema import LABELS, TOP, label_row, top_row
from whisperstill.label.teacher import Teacher, Visit
from whisperstill.records import Window

STATES = ("none", "fp32", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class ShardContent:
    """What a shard holds, ready to be written."""

    tables: dict[str, pa.Table]
    tensors: dict[str, Tensor]
    skipped: list[dict[str, str]]
    windows: int
    seconds: float


@dataclass
class _Gathered:
    """Rows by the window's place in the plan."""

    labels: dict[int, dict[str, object]] = field(default_factory=dict)
    top: dict[int, dict[str, object]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def pack_states(states: Tensor, kind: str) -> dict[str, Tensor]:
    """States as they are kept: `""` the values, `"/scale"` the scale of each position for int8.

    int8 keeps 127 steps of the largest magnitude at each position: an error of at most scale / 2.
    """
    if kind == "fp32":
        return {"": states.float().contiguous()}
    if kind == "bf16":
        return {"": states.to(torch.bfloat16).contiguous()}
    scale = states.float().abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return {"": (states.float() / scale).round().to(torch.int8).contiguous(), "/scale": scale.contiguous()}


def label_shard(
    teacher: Teacher,
    name: str,
    windows: Sequence[Window],
    *,
    batch_size: int,
    top: int,
    states: str,
    max_new_tokens: int,
    advance: Callable[[float], None],
) -> ShardContent:
    """Visit every window of a shard once. Utterances whose audio cannot be decoded are left out and listed."""
    skipped: list[dict[str, str]] = []
    gathered = _Gathered()
    # Windows of like length run together: a batch is as slow as its longest member.
    ordered = sorted(enumerate(windows), key=lambda numbered: -numbered[1].duration)
    batches = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)]
    visited, seconds = 0, 0.0
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(_load, batches[0]) if batches else None
        for index in range(len(batches)):
            assert pending is not None
            loaded, waveforms, bad = pending.result()
            pending = reader.submit(_load, batches[index + 1]) if index + 1 < len(batches) else None
            skipped += bad
            if loaded:
                languages = [window.language for _, window in loaded]
                visits = teacher.visit(
                    torch.from_numpy(waveforms),
                    languages,
                    top=max(1, top),
                    max_new_tokens=max_new_tokens,
                    texts=[_written(window) for _, window in loaded] if teacher.reads else (),
                )
                for (place, window), visit in zip(loaded, visits, strict=True):
                    _gather(gathered, teacher, name, place, window, visit, top, states)
                visited += len(loaded)
                seconds += sum(window.duration for _, window in loaded)
            advance(sum(window.duration for _, window in batches[index]))
    tables = {"labels": pa.Table.from_pylist([row for _, row in sorted(gathered.labels.items())], schema=LABELS)}
    if top:
        tables["top"] = pa.Table.from_pylist([row for _, row in sorted(gathered.top.items())], schema=TOP)
    return ShardContent(tables, gathered.tensors, skipped, visited, seconds)


def _written(window: Window) -> str:
    """The transcripts of a window's utterances."""
    return " ".join((utterance.text or "").strip() for utterance in window.utterances)


def _load(
    windows: Sequence[tuple[int, Window]],
) -> tuple[list[tuple[int, Window]], npt.NDArray[np.float32], list[dict[str, str]]]:
    """Waveforms of windows; a window that loses an utterance becomes a window of the others."""
    kept: list[tuple[int, Window]] = []
    waveforms, bad = [], []
    for place, window in windows:
        try:
            waveform = window_waveform(window)
        except AudioError:
            good = []
            for utterance in window.utterances:
                try:
                    utterance_waveform(utterance)
                    good.append(utterance)
                except AudioError as error:
                    bad.append({"source": f"{utterance.corpus}/{utterance.id}", "reason": str(error)})
            if not good:
                continue
            window = Window(window_id(window.packing, good), tuple(good), window.packing)
            waveform = window_waveform(window)
        kept.append((place, window))
        waveforms.append(waveform)
    return kept, np.stack(waveforms) if waveforms else np.zeros((0, 0), np.float32), bad


def _gather(
    gathered: _Gathered,
    teacher: Teacher,
    shard: str,
    place: int,
    window: Window,
    visit: Visit,
    top: int,
    states: str,
) -> None:
    found = labelled(window, visit, teacher.tokenizer, teacher.vocabulary, timestamps=teacher.timestamps, shard=shard)
    if teacher.reads:  # a text is no reference for itself
        found = replace(found, evidence=tuple(replace(seen, edits=None) for seen in found.evidence))
    gathered.labels[place] = label_row(found)
    targets = found.tokens + ((teacher.vocabulary.end_of_text,) if found.ended else ())
    if top:
        gathered.top[place] = top_row(window.id, targets, visit.decoded.observed)
    if states != "none":
        for suffix, tensor in pack_states(visit.states, states).items():
            gathered.tensors[window.id + suffix] = tensor
        kind = torch.float32 if states == "fp32" else torch.bfloat16
        gathered.tensors[f"{window.id}/hidden"] = visit.decoded.observed.hidden.to(kind).contiguous()
