"""The label store: shards on disk and the manifest that is the only truth about them.

    manifest.json              settings, teacher, the plan's hash, finished shards with a SHA-256 per file
    labels-00000.parquet       windows, utterances, evidence, tokens      (see `label.store_schema`)
    topk-00000.parquet         top-k logits and log-sum-exps
    states-00000.safetensors   encoder states `<window>`, last hidden states `<window>/hidden`
    skipped.jsonl              what was left out, and why

A shard's files are written to temporary names, flushed to disk and renamed; then the manifest names them. A shard
the manifest does not name does not exist: killed at any moment, a run leaves nothing half done.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256, remove_partial_files
from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.store_schema import label_from_row
from whisperstill.label.topk_store import ROW_GROUP_WINDOWS, TopK, TopKReader
from whisperstill.records import PseudoLabel

FORMAT_VERSION = 2
MANIFEST = "manifest.json"


def hash_windows(window_keys: Iterable[str]) -> str:
    """Hash of a shard's planned windows, by their ids."""
    return hashlib.sha256("\n".join(window_keys).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard."""

    name: str
    num_windows: int
    hours: float
    files: dict[str, str]
    """File name -> SHA-256."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    windows_hash: str = ""
    """Hash of the windows it was planned to hold."""


class LabelStore:
    """A label store, open for reading."""

    def __init__(self, directory: Path, manifest: dict[str, object]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.shards = [Shard(**shard) for shard in manifest["shards"]]  # type: ignore[attr-defined]
        self._open_files: dict[str, object] = {}
        self._topk_reader = TopKReader(directory)

    @property
    def settings(self) -> dict[str, object]:
        """Settings it was made with."""
        return self.manifest["settings"]  # type: ignore[return-value]

    @property
    def is_complete(self) -> bool:
        """Whether every window of the plan has been visited."""
        return len(self.shards) == self.manifest["planned_shards"]

    @property
    def sha256(self) -> str:
        """Identity of all its content."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(json.dumps(shard.files, sort_keys=True).encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Compare every file with its hash. Raises `StoreError` naming the first that differs."""
        for shard in self.shards:
            for name, expected in shard.files.items():
                path = self.directory / name
                if not path.exists() or file_sha256(path) != expected:
                    raise StoreError(f"{path} is missing or damaged: delete the folder's {MANIFEST} and label again")

    def read_labels(self) -> Iterator[PseudoLabel]:
        """All windows, in the order of the plan."""
        for shard in self.shards:
            for row in self._read_table(f"labels-{shard.name}.parquet").to_pylist():
                yield label_from_row(row, shard.name)

    def read_topk(self, label: PseudoLabel) -> TopK:
        """Top-k of a window. Raises `StoreError` when the store was made without."""
        return self._topk_reader.read(label.shard, label.window.id)

    def read_encoder_states(self, label: PseudoLabel) -> Tensor:
        """Encoder states `[positions, width]` of a window, in the type they were kept in or float32 from int8."""
        encoder_states = self._read_tensor(label.shard, label.window.id)
        if encoder_states.dtype == torch.int8:
            return encoder_states.float() * self._read_tensor(label.shard, f"{label.window.id}/scale").float()
        return encoder_states

    def read_hidden_states(self, label: PseudoLabel) -> Tensor:
        """The teacher's last hidden states `[steps, width]` at a window's tokens."""
        return self._read_tensor(label.shard, f"{label.window.id}/hidden")

    def _read_tensor(self, shard: str, key: str) -> Tensor:
        if shard not in self._open_files:
            path = self.directory / f"states-{shard}.safetensors"
            if not path.exists():
                raise StoreError(
                    f"{self.directory} holds no encoder states: label with --encoder-states bfloat16 (or int8)"
                )
            self._open_files[shard] = safe_open(str(path), framework="pt")
        handle = self._open_files[shard]
        try:
            return handle.get_tensor(key)  # type: ignore[attr-defined,no-any-return]
        except Exception as error:
            raise StoreError(f"states-{shard}.safetensors has no {key}: label again with --encoder-states") from error

    def _read_table(self, name: str):  # type: ignore[no-untyped-def]
        path = self.directory / name
        try:
            return pq.read_table(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): label again") from error


def open_labels(directory: Path) -> LabelStore:
    """Open a label store.

    Raises `NotFoundError` when there is none, `StoreError` when it is of another format.
    """
    path = directory / MANIFEST
    if not path.exists():
        raise NotFoundError(f"no labels in {directory} (no {MANIFEST}): run `whisperstill label` first")
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise StoreError(f"{path} is no JSON ({error}): delete it and label again") from error
    if manifest.get("format") == 1:
        raise StoreError(
            f"{path} was written before 0.1.0 (format 1, expected {FORMAT_VERSION}): make it again; "
            "docs/glossary.md lists what was renamed"
        )
    if manifest.get("kind") != "labels" or manifest.get("format") != FORMAT_VERSION:
        raise StoreError(f"{path} is not a label store of format {FORMAT_VERSION}")
    return LabelStore(directory, manifest)


def write_shard_files(
    directory: Path, name: str, tables: dict[str, object], tensors: dict[str, Tensor]
) -> dict[str, str]:
    """Write a shard's files (`tables`: prefix -> Arrow table); gives their names and hashes."""
    files = {}
    for prefix, table in tables.items():
        path = directory / f"{prefix}-{name}.parquet"
        with atomic_write_path(path) as temporary:
            pq.write_table(
                table, temporary, compression="zstd", row_group_size=ROW_GROUP_WINDOWS if prefix == "topk" else None
            )
        files[path.name] = file_sha256(path)
    if tensors:
        path = directory / f"states-{name}.safetensors"
        with atomic_write_path(path) as temporary:
            save_file(tensors, temporary)
        files[path.name] = file_sha256(path)
    return files


def _describe_differences(old_header: dict[str, object], new_header: dict[str, object]) -> str:
    """What two headers say differently, name by name."""
    differences = []
    for key in ("settings", "teacher"):
        old_value, new_value = old_header.get(key), new_header[key]
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            changed_names = sorted(name for name in old_value | new_value if old_value.get(name) != new_value.get(name))
            differences += [
                f"{name} {old_value.get(name)}, now {new_value.get(name)}"
                for name in changed_names
                if name != "encoder_sha256"
            ]
    return "; ".join(differences) or "format"


class LabelStoreWriter:
    """A label store, open for adding the shards that are missing."""

    def __init__(self, directory: Path, header: dict[str, object], windows_hashes: dict[str, str]) -> None:
        """Begin, resume or extend.

        `header` holds all that decides the content, settings and teacher; `plan` gives the hash of every shard's
        windows. A plan that keeps the shards that are finished may grow: more corpora, more packings.
        Raises `StoreError` when the folder holds labels made from another header or of other audio.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        header = json.loads(json.dumps({"kind": "labels", "format": FORMAT_VERSION, **header}))
        path = directory / MANIFEST
        if path.exists():
            old_manifest = open_labels(directory).manifest
            differing_keys = [key for key in header if old_manifest.get(key) != header[key]]
            if differing_keys:
                raise StoreError(
                    f"{directory} holds labels made with other {' and '.join(differing_keys)} "
                    f"({_describe_differences(old_manifest, header)}): name another --output, or delete that folder"
                )
            changed_shards = [
                shard["name"]
                for shard in old_manifest["shards"]  # type: ignore[attr-defined]
                if windows_hashes.get(shard["name"]) != shard["windows_hash"]
            ]
            if changed_shards:
                raise StoreError(
                    f"{directory} holds labels of other audio (shard {changed_shards[0]}): name another --output, "
                    "put new corpora after the old ones, or delete that folder"
                )
            self._manifest: dict[str, object] = old_manifest
        else:
            self._manifest = {**header, "shards": []}
        self._manifest["planned_shards"] = len(windows_hashes)
        self.write_manifest()
        remove_partial_files(directory)

    @property
    def finished_shards(self) -> dict[str, Shard]:
        """Finished shards by name."""
        return {shard["name"]: Shard(**shard) for shard in self._manifest["shards"]}  # type: ignore[attr-defined]

    def add_shard(self, shard: Shard) -> None:
        """Name a shard, whose files are written, in the manifest."""
        shards = [existing for existing in self._manifest["shards"] if existing["name"] != shard.name] + [asdict(shard)]  # type: ignore[attr-defined]
        self._manifest["shards"] = sorted(shards, key=lambda entry: entry["name"])
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write the manifest."""
        content = json.dumps(self._manifest, indent=1, sort_keys=True, ensure_ascii=False)
        atomic_write(self.directory / MANIFEST, content)
