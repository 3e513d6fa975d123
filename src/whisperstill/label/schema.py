"""The store's tables: one Parquet row a window, readable with pyarrow, pandas, datasets or DuckDB.

`labels-*.parquet`: the window, its utterances with evidence, the teacher's tokens and text.
`top-*.parquet`: per window and token the k largest logits, the exact log-sum-exp at T = 1 and T = 2 and the
probability mass outside the k. Lists are flat: token i of a window owns entries `i * k ... (i + 1) * k - 1`; the
last token is <|endoftext|> where the teacher ended by itself.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from whisperstill.decode.observed import Observed
from whisperstill.records import AudioSpan, EditCounts, Labelled, Utterance, UtteranceEvidence, Window

UTTERANCE = pa.struct(
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
        ("first_token", pa.int32()),
        ("last_token", pa.int32()),
        ("label", pa.string()),
        ("mean_logprob", pa.float32()),
        ("min_logprob", pa.float32()),
        ("entropy", pa.float32()),
        ("no_speech", pa.float32()),
        ("compression_ratio", pa.float32()),
        ("longest_repeat", pa.int32()),
        ("tokens_per_second", pa.float32()),
        ("hits", pa.int32()),
        ("substitutions", pa.int32()),
        ("deletions", pa.int32()),
        ("insertions", pa.int32()),
    ]
)
FIGURES = (
    "first_token",
    "last_token",
    "mean_logprob",
    "min_logprob",
    "entropy",
    "no_speech",
    "compression_ratio",
    "longest_repeat",
    "tokens_per_second",
)
"""Columns of an utterance that are fields of `UtteranceEvidence` as they are."""
LABELS = pa.schema(
    [
        ("window", pa.string()),
        ("packing", pa.int32()),
        ("duration", pa.float64()),
        ("language", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("ended", pa.bool_()),
        ("timestamps", pa.bool_()),
        ("utterances", pa.list_(UTTERANCE)),
    ]
)
TOP = pa.schema(
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


def label_row(labelled: Labelled) -> dict[str, object]:
    """A `Labelled` as a row of `labels-*.parquet`."""
    rows = []
    for seen in labelled.evidence:
        utterance, edits = seen.utterance, seen.edits
        rows.append(
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
                "first_token": seen.first_token,
                "last_token": seen.last_token,
                "label": seen.text,
                "mean_logprob": seen.mean_logprob,
                "min_logprob": seen.min_logprob,
                "entropy": seen.entropy,
                "no_speech": seen.no_speech,
                "compression_ratio": seen.compression_ratio,
                "longest_repeat": seen.longest_repeat,
                "tokens_per_second": seen.tokens_per_second,
                "hits": edits and edits.hits,
                "substitutions": edits and edits.substitutions,
                "deletions": edits and edits.deletions,
                "insertions": edits and edits.insertions,
            }
        )
    return {
        "window": labelled.window.id,
        "packing": labelled.window.packing,
        "duration": labelled.window.duration,
        "language": labelled.language,
        "tokens": list(labelled.tokens),
        "text": labelled.text,
        "ended": labelled.ended,
        "timestamps": labelled.timestamps,
        "utterances": rows,
    }


def labelled_from(row: dict[str, object], shard: str) -> Labelled:
    """The inverse of `label_row`."""
    evidence = []
    for raw in row["utterances"]:  # type: ignore[attr-defined]
        utterance = Utterance(
            id=raw["id"],
            corpus=raw["corpus"],
            audio=AudioSpan(raw["audio"], raw["start"], raw["duration"]),
            text=raw["text"],
            language=raw["language"],
            speaker=raw["speaker"],
            session=raw["session"],
        )
        edits = None
        if raw["hits"] is not None:
            edits = EditCounts(raw["hits"], raw["substitutions"], raw["deletions"], raw["insertions"])
        figures = {name: raw[name] for name in FIGURES}
        evidence.append(UtteranceEvidence(utterance=utterance, text=raw["label"], edits=edits, **figures))
    return Labelled(
        window=Window(str(row["window"]), tuple(seen.utterance for seen in evidence), int(row["packing"])),  # type: ignore[call-overload]
        language=str(row["language"]),
        tokens=tuple(row["tokens"]),  # type: ignore[arg-type]
        text=str(row["text"]),
        ended=bool(row["ended"]),
        timestamps=bool(row["timestamps"]),
        evidence=tuple(evidence),
        shard=shard,
    )


def top_row(window: str, tokens: Sequence[int], seen: Observed) -> dict[str, object]:
    """An observation as a row of `top-*.parquet`. `tokens` are the targets, the end token included."""

    def tail(lse: Tensor, temperature: float) -> np.ndarray:
        inside = (seen.top_logits.double() / temperature - lse.double()[:, None]).exp().sum(-1)
        return (1 - inside).clamp_min(0).float().numpy()

    return {
        "window": window,
        "tokens": list(tokens),
        "k": int(seen.top_ids.shape[1]),
        "top_ids": seen.top_ids.to(torch.int32).flatten().numpy(),
        "top_logits": seen.top_logits.flatten().numpy(),
        "lse1": seen.lse1.numpy(),
        "lse2": seen.lse2.numpy(),
        "tail1": tail(seen.lse1, 1.0),
        "tail2": tail(seen.lse2, 2.0),
    }
