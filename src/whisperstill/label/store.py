"""The label store, for reading: shards on disk and the manifest that lists them.

    manifest.json              settings, teacher, finished shards with a SHA-256 per file
    labels-00000.parquet       one row per window: tokens and text, per utterance a `LabelQuality`
    topk-00000.parquet         top-k logits and log-sum-exps                   (see `label.topk_store`)
    states-00000.safetensors   encoder states `<window>`, last hidden states `<window>/hidden`
    skipped.jsonl              what was left out, and why
    report.json                totals of the last run

Shards that the manifest does not list are unfinished and ignored (see `label.store_writer`).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from torch import Tensor

from whisperstill.atomic_io import file_sha256
from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.topk_store import TopK, TopKReader
from whisperstill.records import LabelQuality, PseudoLabel, Window
from whisperstill.records.json_value import JsonValue
from whisperstill.records.serialization import strict_converter

FORMAT_VERSION = 2
MANIFEST = "manifest.json"

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

_QUALITY_CONVERTER = strict_converter()


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


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard."""

    name: str
    num_windows: int
    hours: float
    files: dict[str, str]
    """File name -> SHA-256."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    """Utterances whose audio could not be decoded: `source` and `reason`."""
    windows_hash: str = ""
    """Hash of the windows the shard was planned to hold (see `label.shard_plan`)."""


class LabelStore:
    """A label store, open for reading; files are opened when first needed."""

    def __init__(self, directory: Path, manifest: dict[str, JsonValue], shards: list[Shard]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.shards = shards
        self._open_files: dict[str, Any] = {}
        self._topk_reader = TopKReader(directory)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Settings the labels were made with."""
        settings = self.manifest["settings"]
        assert isinstance(settings, dict)
        return settings

    @property
    def teacher(self) -> dict[str, str]:
        """`source`, `sha256` and `encoder_sha256` of the teacher that labelled."""
        teacher = self.manifest["teacher"]
        assert isinstance(teacher, dict)
        return {key: str(teacher[key]) for key in ("source", "sha256", "encoder_sha256")}

    @property
    def has_encoder_states(self) -> bool:
        """Whether the store holds encoder states and last hidden states."""
        return self.settings["encoder_states"] != "none"

    @property
    def is_complete(self) -> bool:
        """Whether all planned shards are labelled."""
        return len(self.shards) == self.manifest["planned_shards"]

    @property
    def sha256(self) -> str:
        """Hash of all labels, top-k logits and states."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(json.dumps(shard.files, sort_keys=True).encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Compare every file with its hash. Raises `StoreError` that names the first one that differs."""
        for shard in self.shards:
            for name, expected in shard.files.items():
                path = self.directory / name
                if not path.exists() or file_sha256(path) != expected:
                    raise StoreError(f"{path} is missing or damaged: delete the folder's {MANIFEST} and label again")

    def read_labels(self) -> Iterator[PseudoLabel]:
        """All labelled windows, in the order of the plan."""
        for shard in self.shards:
            path = self.directory / f"labels-{shard.name}.parquet"
            try:
                table = pq.read_table(path)
            except (OSError, ValueError) as error:
                raise StoreError(f"{path} cannot be read ({error}): label again") from error
            if table.schema != LABELS_SCHEMA:
                raise StoreError(f"{path} has other columns than expected: label again")
            for row in table.to_pylist():
                yield label_from_row(row, shard.name)

    def read_topk(self, label: PseudoLabel) -> TopK:
        """Top-k logits of a window. Raises `StoreError` when the store has none."""
        return self._topk_reader.read(label.shard, label.window.id)

    def read_encoder_states(self, label: PseudoLabel) -> Tensor:
        """Encoder states `[positions, width]` of a window, in the stored dtype (int8: as float32).

        Raises `StoreError` when the store has none; so does `read_hidden_states`.
        """
        encoder_states = self._read_tensor(label.shard, label.window.id)
        if encoder_states.dtype == torch.int8:
            return encoder_states.float() * self._read_tensor(label.shard, f"{label.window.id}/scale").float()
        return encoder_states

    def read_hidden_states(self, label: PseudoLabel) -> Tensor:
        """The teacher's last hidden states `[tokens, width]` of a window, one per target token."""
        return self._read_tensor(label.shard, f"{label.window.id}/hidden")

    def _read_tensor(self, shard: str, key: str) -> Tensor:
        if shard not in self._open_files:
            path = self.directory / f"states-{shard}.safetensors"
            if not path.exists():
                raise StoreError(
                    f"{self.directory} holds no encoder states: label with --encoder-states bfloat16 (or int8)"
                )
            self._open_files[shard] = safe_open(str(path), framework="pt")
        try:
            tensor: Tensor = self._open_files[shard].get_tensor(key)
        except Exception as error:  # safetensors raises its own error type
            raise StoreError(f"states-{shard}.safetensors has no {key}: label again with --encoder-states") from error
        return tensor


def open_labels(directory: Path) -> LabelStore:
    """Open a label store. Raises `NotFoundError` when there is none, `StoreError` for another format."""
    path = directory / MANIFEST
    manifest = read_manifest(path, "labels", FORMAT_VERSION, "label")
    try:
        entries: Any = manifest["shards"]
        shards = [Shard(**entry) for entry in entries]
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} does not list its shards as expected ({error}): label again") from error
    return LabelStore(directory, manifest, shards)


def read_manifest(path: Path, kind: str, version: int, command: str) -> dict[str, JsonValue]:
    """The JSON object of a file that `whisperstill COMMAND` wrote, of this kind and format version.

    Raises `NotFoundError` when there is none, `StoreError` when it is damaged or of another kind or format.
    """
    if not path.exists():
        raise NotFoundError(f"no {path.name} in {path.parent}: run `whisperstill {command}` first")
    again = f"delete it and run `whisperstill {command}` again"
    try:
        content: dict[str, JsonValue] = json.loads(path.read_text(encoding="utf-8"))
        found_kind, found_version = content.get("kind"), content.get("format")
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{path} cannot be read ({error}): {again}") from error
    if found_version == 1:
        raise StoreError(
            f"{path} was written before 0.1.0 (format 1, expected {version}): {again}; docs/glossary.md lists what was "
            "renamed"
        )
    if (found_kind, found_version) != (kind, version):
        raise StoreError(f"{path} was not written by `whisperstill {command}` in format {version}: {again}")
    return content


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
    """The inverse of `label_to_row`."""
    quality = _QUALITY_CONVERTER.structure(row["quality"], tuple[LabelQuality, ...])
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
