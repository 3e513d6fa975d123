"""Tables of the label store: one Parquet row per window, readable with pyarrow, pandas, datasets or DuckDB.

`labels-*.parquet`: the window, the teacher's tokens and text, and per utterance a `LabelQuality` with its `Utterance`.
`topk-*.parquet`: per window and token the k largest logits, the exact log-sum-exp at T = 1 and T = 2 and the
probability mass outside the k. Lists are flat: token i of a window owns entries `i * k ... (i + 1) * k - 1`; the
last token is <|endoftext|> if the teacher ended the transcript.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from whisperstill.decode.generate.token_stats import TokenStats
from whisperstill.records import AudioSpan, EditCounts, LabelQuality, PseudoLabel, Utterance, Window
from whisperstill.records.json_value import JsonValue

EDITS_TYPE = pa.struct([(name, pa.int32()) for name in ("hits", "substitutions", "deletions", "insertions")])
UTTERANCE_TYPE = pa.struct(
    [
        ("id", pa.string()),
        ("corpus", pa.string()),
        ("audio", pa.struct([("path", pa.string()), ("start", pa.float64()), ("duration", pa.float64())])),
        *((name, pa.string()) for name in ("text", "language", "speaker", "session")),
    ]
)
QUALITY_TYPE = pa.struct(
    [
        ("utterance", UTTERANCE_TYPE),
        ("token_start", pa.int32()),
        ("token_end", pa.int32()),
        ("text", pa.string()),
        *((n, pa.float32()) for n in ("mean_logprob", "min_logprob", "entropy", "no_speech_prob", "compression_ratio")),
        ("ngram_repeats", pa.int32()),
        ("tokens_per_second", pa.float32()),
        ("edits", EDITS_TYPE),
    ]
)
LABELS_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("packing_variant", pa.int32()),
        ("duration", pa.float64()),
        ("language", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("ended", pa.bool_()),
        ("timestamps", pa.bool_()),
        ("quality", pa.list_(QUALITY_TYPE)),
    ]
)
TOPK_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("k", pa.int32()),
        ("top_ids", pa.list_(pa.int32())),
        *((name, pa.list_(pa.float32())) for name in ("top_logits", "lse1", "lse2", "tail1", "tail2")),
    ]
)


TopKRow: TypeAlias = dict[str, str | int | list[int] | npt.NDArray[np.int32] | npt.NDArray[np.float32]]


class LabelRow(TypedDict):
    """A row of `labels-*.parquet`."""

    window: str
    packing_variant: int
    duration: float
    language: str
    tokens: list[int]
    text: str
    ended: bool
    timestamps: bool
    quality: list[dict[str, JsonValue]]


def label_to_row(label: PseudoLabel) -> LabelRow:
    """A row of `labels-*.parquet`."""
    return {
        "window": label.window.id,
        "packing_variant": label.window.packing_variant,
        "duration": label.window.duration,
        "language": label.language,
        "tokens": list(label.tokens),
        "text": label.text,
        "ended": label.ended,
        "timestamps": label.timestamps,
        "quality": [asdict(quality) for quality in label.quality],
    }


def label_from_row(row: LabelRow, shard: str) -> PseudoLabel:
    """The inverse of `label_to_row`. Raises `KeyError` or `TypeError` for missing or unknown columns."""
    quality = tuple(map(_quality_from_row, row["quality"]))
    return PseudoLabel(
        window=Window(row["window"], tuple(entry.utterance for entry in quality), row["packing_variant"]),
        language=row["language"],
        tokens=tuple(row["tokens"]),
        text=row["text"],
        ended=row["ended"],
        timestamps=row["timestamps"],
        quality=quality,
        shard=shard,
    )


def _quality_from_row(row: dict[str, Any]) -> LabelQuality:
    audio, edits = AudioSpan(**row["utterance"]["audio"]), row["edits"]
    utterance = Utterance(**{**row["utterance"], "audio": audio})
    return LabelQuality(**{**row, "utterance": utterance, "edits": None if edits is None else EditCounts(**edits)})


def topk_to_row(window_id: str, tokens: Sequence[int], stats: TokenStats) -> TopKRow:
    """A row of `topk-*.parquet`. `tokens` are the target tokens, <|endoftext|> included."""

    def tail_mass(lse: Tensor, temperature: float) -> npt.NDArray[np.float32]:
        topk_mass = (stats.top_logits.double() / temperature - lse.double()[:, None]).exp().sum(-1)
        mass: npt.NDArray[np.float32] = (1 - topk_mass).clamp_min(0).float().numpy()
        return mass

    return {
        "window": window_id,
        "tokens": list(tokens),
        "k": int(stats.top_ids.shape[1]),
        "top_ids": stats.top_ids.to(torch.int32).flatten().numpy(),
        "top_logits": stats.top_logits.flatten().numpy(),
        "lse1": stats.lse1.numpy(),
        "lse2": stats.lse2.numpy(),
        "tail1": tail_mass(stats.lse1, 1.0),
        "tail2": tail_mass(stats.lse2, 2.0),
    }
