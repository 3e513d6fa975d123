"""Filter decisions on disk; the label store they refer to stays unchanged.

    filter_decisions.parquet   one row per utterance and window: kept or not, the rule, the value it measured
    filter.json                rule settings, path of the labels, hashes of both, totals; written last

`filter.json` ties the two together: decisions or labels with another hash than it states are refused.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256
from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.filter_rules import reference_wer
from whisperstill.label.filtering import count_words
from whisperstill.label.store import MANIFEST, read_manifest
from whisperstill.records.json_value import JsonValue
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel

FORMAT_VERSION = 2
DECISIONS_FILE = "filter_decisions.parquet"
SUMMARY_FILE = "filter.json"

DECISIONS_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),
        ("utterance_id", pa.string()),
        ("corpus", pa.string()),
        ("keep", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.float64()),
        ("wer", pa.float64()),
        ("words", pa.int32()),
        ("duration", pa.float64()),
        ("weight", pa.float64()),
    ]
)

DecisionKey: TypeAlias = tuple[str, str, str]
"""Window id, corpus, utterance id."""


DecisionRow: TypeAlias = dict[str, str | bool | float | None]
"""A row of `filter_decisions.parquet`: `wer` in per cent, None without reference; `duration` in seconds."""


def build_decision_rows(filtered: FilteredLabel) -> list[DecisionRow]:
    """The rows of a window, one per utterance."""
    return [
        {
            "window_id": filtered.label.window.id,
            "utterance_id": quality.utterance.id,
            "corpus": quality.utterance.corpus,
            "keep": decision.keep,
            "rule": decision.rule,
            "value": decision.value,
            "wer": reference_wer(quality),
            "words": count_words(quality, filtered.label.language),
            "duration": quality.utterance.audio.duration,
            "weight": decision.weight,
        }
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True)
    ]


def write_decisions(
    directory: Path, labels: Path, decision_rows: Sequence[DecisionRow], summary: Mapping[str, JsonValue]
) -> None:
    """Write the decisions on the label store `labels`, then `filter.json` with `summary`.

    Both files are written atomically. Raises `NotFoundError` when there is no label store.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(decision_rows), DECISIONS_SCHEMA)
    with atomic_write_path(directory / DECISIONS_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    content = {
        "kind": "filter",
        "format": FORMAT_VERSION,
        "labels": os.path.relpath(labels.resolve(), directory.resolve()),
        "labels_sha256": _sha256(labels / MANIFEST),
        "decisions_sha256": _sha256(directory / DECISIONS_FILE),
        **summary,
    }
    atomic_write(directory / SUMMARY_FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_decisions(directory: Path) -> tuple[Path, dict[DecisionKey, FilterDecision]]:
    """The label store's folder, and the decision on each utterance by (window id, corpus, utterance id).

    Raises `NotFoundError` when the decisions or their labels are missing, `StoreError` when the decisions are damaged
    or of another format, or when the labels have changed since.
    """
    summary = read_manifest(directory / SUMMARY_FILE, "filter", FORMAT_VERSION, "filter")
    labels = Path(os.path.normpath(directory / str(summary["labels"])))
    path = directory / DECISIONS_FILE
    if _sha256(path) != summary["decisions_sha256"]:
        raise StoreError(f"{path} is damaged or half written: run `whisperstill filter` again")
    if _sha256(labels / MANIFEST) != summary["labels_sha256"]:
        raise StoreError(
            f"the labels in {labels} have changed since they were filtered: run `whisperstill filter` again"
        )
    table = pq.read_table(path)
    if table.schema != DECISIONS_SCHEMA:
        raise StoreError(f"{path} has other columns than expected: run `whisperstill filter` again")
    return labels, {
        (row["window_id"], row["corpus"], row["utterance_id"]): FilterDecision(
            row["keep"], row["rule"], row["value"], row["weight"]
        )
        for row in table.to_pylist()
    }


def decisions_sha256(directory: Path) -> str:
    """SHA-256 of a folder's decisions; empty when there are none."""
    return _sha256(directory / DECISIONS_FILE) if (directory / DECISIONS_FILE).exists() else ""


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"expected a file {path}, there is none: run `whisperstill label` and `filter` again")
    return file_sha256(path)
