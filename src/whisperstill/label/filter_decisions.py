"""Verdicts on disk, beside the labels they are about: nothing of the labels is touched.

    decisions.parquet  a row per utterance of a window: kept or not, by which rule, the figure it measured
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

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256
from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.counts import count_words
from whisperstill.label.filter_rules import wer_percent
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel

FORMAT_VERSION = 2
DECISIONS_FILE = "decisions.parquet"
SUMMARY_FILE = "filter.json"
LABELS_MANIFEST = "manifest.json"

DECISIONS_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),
        ("utterance_id", pa.string()),
        ("corpus", pa.string()),
        ("keep", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.float64()),
        ("wer", pa.float64()),  # per cent; null without reference
        ("words", pa.int32()),
        ("duration", pa.float64()),  # seconds
        ("weight", pa.float64()),
    ]
)

DecisionKey = tuple[str, str, str]
"""Window id, corpus, utterance id."""


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A verdict and what it is about."""

    window_id: str
    utterance_id: str
    corpus: str
    keep: bool
    rule: str
    value: float
    wer: float | None
    words: int
    duration: float
    weight: float


def build_decision_rows(filtered: FilteredLabel) -> list[DecisionRow]:
    """The rows of a judged window."""
    return [
        DecisionRow(
            window_id=filtered.label.window.id,
            utterance_id=quality.utterance.id,
            corpus=quality.utterance.corpus,
            keep=decision.keep,
            rule=decision.rule,
            value=decision.value,
            wer=None if quality.edits is None else wer_percent(quality.edits),
            words=count_words(quality, filtered.label.language),
            duration=quality.utterance.audio.duration,
            weight=decision.weight,
        )
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True)
    ]


def write_decisions(
    directory: Path, labels: Path, decision_rows: Sequence[DecisionRow], summary: dict[str, object]
) -> None:
    """Write verdicts about the labels in `labels`, then `filter.json` with `summary` and what ties the two together.

    Each file appears whole or not at all, `filter.json` last. Raises `NotFoundError` when there are no labels.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {name: [getattr(row, name) for row in decision_rows] for name in DECISIONS_SCHEMA.names},
        schema=DECISIONS_SCHEMA,
    )
    with atomic_write_path(directory / DECISIONS_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    content = {
        "kind": "filter",
        "format": FORMAT_VERSION,
        "labels": os.path.relpath(labels.resolve(), directory.resolve()),
        "labels_sha256": _sha256(labels / LABELS_MANIFEST),
        "decisions_sha256": _sha256(directory / DECISIONS_FILE),
        **summary,
    }
    atomic_write(directory / SUMMARY_FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_decisions(directory: Path) -> tuple[Path, dict[DecisionKey, FilterDecision]]:
    """The folder of the labels, and the verdict on each utterance by (window id, corpus, utterance id).

    Raises `NotFoundError` when there are no verdicts or their labels are gone, `StoreError` when the verdicts are
    damaged or the labels have changed since they were judged.
    """
    path = directory / SUMMARY_FILE
    if not path.exists():
        raise NotFoundError(f"no verdicts in {directory} (no {SUMMARY_FILE}): run `whisperstill filter` first")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        is_valid = summary.get("kind") == "filter" and summary.get("format") == FORMAT_VERSION
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{path} is not readable ({error}): run `whisperstill filter` again") from error
    if summary.get("format") == 1:
        raise StoreError(
            f"{path} was written before 0.1.0 (format 1, expected {FORMAT_VERSION}): make it again; "
            "docs/glossary.md lists what was renamed"
        )
    if not is_valid:
        raise StoreError(
            f"{path} is not a summary of verdicts of format {FORMAT_VERSION}: run `whisperstill filter` again"
        )
    labels = Path(os.path.normpath(directory / summary["labels"]))
    if _sha256(directory / DECISIONS_FILE) != summary["decisions_sha256"]:
        raise StoreError(f"{directory / DECISIONS_FILE} is damaged or half written: run `whisperstill filter` again")
    if _sha256(labels / LABELS_MANIFEST) != summary["labels_sha256"]:
        raise StoreError(f"the labels in {labels} have changed since they were judged: run `whisperstill filter` again")
    table = pq.read_table(directory / DECISIONS_FILE)
    columns = [table.column(name).to_pylist() for name in DECISIONS_SCHEMA.names[:6]]
    # Verdicts of earlier versions weigh nothing.
    columns.append(table.column("weight").to_pylist() if "weight" in table.column_names else [1.0] * len(table))
    return labels, {
        (window_id, corpus, utterance_id): FilterDecision(keep, rule, value, weight)
        for window_id, utterance_id, corpus, keep, rule, value, weight in zip(*columns, strict=True)
    }


def decisions_sha256(directory: Path) -> str:
    """Of the verdicts in a folder; empty where there are none."""
    return _sha256(directory / DECISIONS_FILE) if (directory / DECISIONS_FILE).exists() else ""


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"expected a file {path}, there is none: run `whisperstill label` and `filter` again")
    return file_sha256(path)
