"""The store's tables: one Parquet row a window, readable with pyarrow, pandas, datasets or DuckDB.

`labels-*.parquet`: the window, its utterances with evidence, the teacher's tokens and text.
`topk-*.parquet`: per window and token the k largest logits, the exact log-sum-exp at T = 1 and T = 2 and the
probability mass outside the k. Lists are flat: token i of a window owns entries `i * k ... (i + 1) * k - 1`; the
last token is <|endoftext|> where the teacher ended by itself.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from whisperstill.decode.generate.token_stats import TokenStats
from whisperstill.records import AudioSpan, EditCounts, LabelQuality, PseudoLabel, Utterance, Window

UTTERANCE_TYPE = pa.struct(
    [
        ("id", pa.string()),
        ("corpus", pa.string()),
        ("audio", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("speaker", pa.string()),
        ("session", pa.string()),
        ("token_start", pa.int32()),
        ("token_end", pa.int32()),
        ("label_text", pa.string()),
        ("mean_logprob", pa.float32()),
        ("min_logprob", pa.float32()),
        ("entropy", pa.float32()),
        ("no_speech_prob", pa.float32()),
        ("compression_ratio", pa.float32()),
        ("ngram_repeats", pa.int32()),
        ("tokens_per_second", pa.float32()),
        ("hits", pa.int32()),
        ("substitutions", pa.int32()),
        ("deletions", pa.int32()),
        ("insertions", pa.int32()),
    ]
)
QUALITY_COLUMNS = (
    "token_start",
    "token_end",
    "mean_logprob",
    "min_logprob",
    "entropy",
    "no_speech_prob",
    "compression_ratio",
    "ngram_repeats",
    "tokens_per_second",
)
"""Columns of an utterance that are fields of `LabelQuality` as they are."""
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
        ("utterances", pa.list_(UTTERANCE_TYPE)),
    ]
)
TOPK_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("k", pa.int32()),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logits", pa.list_(pa.float32())),
        ("lse1", pa.list_(pa.float32())),
        ("lse2", pa.list_(pa.float32())),
        ("tail1", pa.list_(pa.float32())),
        ("tail2", pa.list_(pa.float32())),
    ]
)


def label_to_row(label: PseudoLabel) -> dict[str, object]:
    """A `PseudoLabel` as a row of `labels-*.parquet`."""
    utterance_rows = []
    for quality in label.quality:
        utterance, edits = quality.utterance, quality.edits
        utterance_rows.append(
            {
                "id": utterance.id,
                "corpus": utterance.corpus,
                "audio": utterance.audio.path,
                "start": utterance.audio.start,
                "duration": utterance.audio.duration,
                "text": utterance.text,
                "language": utterance.language,
                "speaker": utterance.speaker,
                "session": utterance.session,
                "token_start": quality.token_start,
                "token_end": quality.token_end,
                "label_text": quality.text,
                "mean_logprob": quality.mean_logprob,
                "min_logprob": quality.min_logprob,
                "entropy": quality.entropy,
                "no_speech_prob": quality.no_speech_prob,
                "compression_ratio": quality.compression_ratio,
                "ngram_repeats": quality.ngram_repeats,
                "tokens_per_second": quality.tokens_per_second,
                "hits": edits and edits.hits,
                "substitutions": edits and edits.substitutions,
                "deletions": edits and edits.deletions,
                "insertions": edits and edits.insertions,
            }
        )
    return {
        "window": label.window.id,
        "packing_variant": label.window.packing_variant,
        "duration": label.window.duration,
        "language": label.language,
        "tokens": list(label.tokens),
        "text": label.text,
        "ended": label.ended,
        "timestamps": label.timestamps,
        "utterances": utterance_rows,
    }


def label_from_row(row: dict[str, object], shard: str) -> PseudoLabel:
    """The inverse of `label_to_row`."""
    qualities = []
    for utterance_row in row["utterances"]:  # type: ignore[attr-defined]
        utterance = Utterance(
            id=utterance_row["id"],
            corpus=utterance_row["corpus"],
            audio=AudioSpan(utterance_row["audio"], utterance_row["start"], utterance_row["duration"]),
            text=utterance_row["text"],
            language=utterance_row["language"],
            speaker=utterance_row["speaker"],
            session=utterance_row["session"],
        )
        edits = None
        if utterance_row["hits"] is not None:
            edits = EditCounts(
                utterance_row["hits"],
                utterance_row["substitutions"],
                utterance_row["deletions"],
                utterance_row["insertions"],
            )
        quality_columns = {name: utterance_row[name] for name in QUALITY_COLUMNS}
        qualities.append(
            LabelQuality(utterance=utterance, text=utterance_row["label_text"], edits=edits, **quality_columns)
        )
    packing_variant = int(row["packing_variant"])  # type: ignore[call-overload]
    return PseudoLabel(
        window=Window(str(row["window"]), tuple(quality.utterance for quality in qualities), packing_variant),
        language=str(row["language"]),
        tokens=tuple(row["tokens"]),  # type: ignore[arg-type]
        text=str(row["text"]),
        ended=bool(row["ended"]),
        timestamps=bool(row["timestamps"]),
        quality=tuple(qualities),
        shard=shard,
    )


def topk_to_row(window_id: str, tokens: Sequence[int], stats: TokenStats) -> dict[str, object]:
    """An observation as a row of `topk-*.parquet`. `tokens` are the targets, the end token included."""

    def tail_mass(lse: Tensor, temperature: float) -> np.ndarray:
        topk_mass = (stats.top_logits.double() / temperature - lse.double()[:, None]).exp().sum(-1)
        return (1 - topk_mass).clamp_min(0).float().numpy()

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
