"""Verdicts on disk, beside the labels they are about: nothing of the labels is touched.

    verdicts.parquet   a row per utterance of a window: kept or not, by which rule, the figure it measured
    filter.json        rule settings, where the labels lie, hashes of both, counts per reason; written last

`filter.json` is the only truth: verdicts that do not have the hash it names, or labels that have changed since, are
refused.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from whisperstill.errors import NotFoundError, StoreError
from whisperstill.files import file_sha256, whole, write_whole
from whisperstill.label.rules import wer_percent
from whisperstill.label.tally import spoken_words
from whisperstill.records.labelled import Judged, Verdict

FORMAT = 1
VERDICTS = "verdicts.parquet"
SUMMARY = "filter.json"
LABELS_MANIFEST = "manifest.json"

SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),
        ("utterance_id", pa.string()),
        ("corpus", pa.string()),
        ("kept", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.float64()),
        ("wer", pa.float64()),  # per cent; null without reference
        ("words", pa.int32()),
        ("duration", pa.float64()),  # seconds
        ("weight", pa.float64()),
    ]
)

Key = tuple[str, str, str]
"""Window id, corpus, utterance id."""


@dataclass(frozen=True, slots=True)
class Row:
    """A verdict and what it is about."""

    window_id: str
    utterance_id: str
    corpus: str
    kept: bool
    rule: str
    value: float
    wer: float | None
    words: int
    duration: float
    weight: float


def rows(judged: Judged) -> list[Row]:
    """The rows of a judged window."""
    return [
        Row(
            window_id=judged.labelled.window.id,
            utterance_id=seen.utterance.id,
            corpus=seen.utterance.corpus,
            kept=verdict.kept,
            rule=verdict.rule,
            value=verdict.value,
            wer=None if seen.edits is None else wer_percent(seen.edits),
            words=spoken_words(seen, judged.labelled.language),
            duration=seen.utterance.audio.duration,
            weight=verdict.weight,
        )
        for seen, verdict in zip(judged.labelled.evidence, judged.verdicts, strict=True)
    ]


def write_verdicts(directory: Path, labels: Path, verdicts: Sequence[Row], summary: dict[str, object]) -> None:
    """Write verdicts about the labels in `labels`, then `filter.json` with `summary` and what ties the two together.

    Each file appears whole or not at all, `filter.json` last. Raises `NotFoundError` when there are no labels.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: [getattr(row, name) for row in verdicts] for name in SCHEMA.names}, schema=SCHEMA)
    with whole(directory / VERDICTS) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    content = {
        "kind": "verdicts",
        "format": FORMAT,
        "labels": os.path.relpath(labels.resolve(), directory.resolve()),
        "labels_sha256": _sha256(labels / LABELS_MANIFEST),
        "verdicts_sha256": _sha256(directory / VERDICTS),
        **summary,
    }
    write_whole(directory / SUMMARY, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_verdicts(directory: Path) -> tuple[Path, dict[Key, Verdict]]:
    """The folder of the labels, and the verdict on each utterance by (window id, corpus, utterance id).

    Raises `NotFoundError` when there are no verdicts or their labels are gone, `StoreError` when the verdicts are
    damaged or the labels have changed since they were judged.
    """
    path = directory / SUMMARY
    if not path.exists():
        raise NotFoundError(f"no verdicts in {directory} (no {SUMMARY}): run `whisperstill filter` first")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        known = summary.get("kind") == "verdicts" and summary.get("format") == FORMAT
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{path} is not readable ({error}): run `whisperstill filter` again") from error
    if not known:
        raise StoreError(f"{path} is not a summary of verdicts of format {FORMAT}: run `whisperstill filter` again")
    labels = Path(os.path.normpath(directory / summary["labels"]))
    if _sha256(directory / VERDICTS) != summary["verdicts_sha256"]:
        raise StoreError(f"{directory / VERDICTS} is damaged or half written: run `whisperstill filter` again")
    if _sha256(labels / LABELS_MANIFEST) != summary["labels_sha256"]:
        raise StoreError(f"the labels in {labels} have changed since they were judged: run `whisperstill filter` again")
    table = pq.read_table(directory / VERDICTS)
    columns = [table.column(name).to_pylist() for name in SCHEMA.names[:6]]
    # Verdicts of earlier versions weigh nothing.
    columns.append(table.column("weight").to_pylist() if "weight" in table.column_names else [1.0] * len(table))
    return labels, {
        (window, corpus, utterance): Verdict(kept, rule, value, weight)
        for window, utterance, corpus, kept, rule, value, weight in zip(*columns, strict=True)
    }


def verdicts_sha256(directory: Path) -> str:
    """Of the verdicts in a folder; empty where there are none."""
    return _sha256(directory / VERDICTS) if (directory / VERDICTS).exists() else ""


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"expected a file {path}, there is none: run `whisperstill label` and `filter` again")
    return file_sha256(path)
