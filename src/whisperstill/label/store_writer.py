"""The label store, for writing: it begins, resumes or extends, and adds one shard at a time.

A shard's files are written under temporary names, flushed to disk and renamed; then the manifest lists them. A shard
that the manifest does not list does not exist, so a run killed at any moment leaves a valid store.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor

from whisperstill.atomic_io import atomic_write, atomic_write_path, file_sha256, remove_partial_files
from whisperstill.errors import StoreError
from whisperstill.label.settings import LabelSettings
from whisperstill.label.store import FORMAT_VERSION, MANIFEST, LabelStore, Shard, open_labels
from whisperstill.label.topk_store import ROW_GROUP_WINDOWS
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.records.json_value import JsonValue

SETTINGS_WITHOUT_EFFECT = frozenset(
    {"output", "manifest", "teacher", "device", "strict", "dtype", "packing_variants", "workers", "ray_address"}
)
"""Settings that do not change a label, or that the manifest states in another way (teacher, dtype, shards)."""


class LabelStoreWriter:
    """A label store, open for adding the shards that are missing."""

    def __init__(self, directory: Path, header: Mapping[str, JsonValue], windows_hashes: Mapping[str, str]) -> None:
        """Begin, resume or extend a store.

        `header` holds everything the labels depend on (settings and teacher), `windows_hashes` the hash of every
        planned shard by name. A plan that still has all finished shards may grow: more corpora, more packing variants.
        Raises `StoreError` when the folder holds labels made with another header or of other audio.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        manifest: dict[str, JsonValue] = {"kind": "labels", "format": FORMAT_VERSION, **header}
        self.shards: dict[str, Shard] = {}
        if (directory / MANIFEST).exists():
            store = open_labels(directory)
            _check_same_header(store, json.loads(json.dumps(manifest)))
            self.shards = {shard.name: shard for shard in store.shards}
            for name, shard in self.shards.items():
                if windows_hashes.get(name) != shard.windows_hash:
                    raise StoreError(
                        f"{directory} holds labels of other audio (shard {name}): name another --output, "
                        "put new corpora after the old ones, or delete that folder"
                    )
        self._manifest = {**manifest, "planned_shards": len(windows_hashes)}
        self._write_manifest()
        remove_partial_files(directory)

    def add_shard(self, shard: Shard) -> None:
        """List a shard in the manifest; its files are already written."""
        self.shards[shard.name] = shard
        self._write_manifest()

    def _write_manifest(self) -> None:
        shards = [asdict(self.shards[name]) for name in sorted(self.shards)]
        content = json.dumps({**self._manifest, "shards": shards}, indent=1, sort_keys=True, ensure_ascii=False)
        atomic_write(self.directory / MANIFEST, content)


def build_header(settings: LabelSettings, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, JsonValue]:
    """Everything the labels of a store depend on, as its manifest states it.

    The batch size of an existing store stays: it affects rounding only, and a run that resumes after running out of
    memory needs a smaller one.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in SETTINGS_WITHOUT_EFFECT}
    if (settings.output / MANIFEST).exists():
        values["batch_size"] = open_labels(settings.output).settings.get("batch_size", settings.batch_size)
    return {
        "settings": {**values, "dtype": str(dtype).removeprefix("torch.")},
        "teacher": {
            "source": checkpoint.source,
            "sha256": checkpoint.sha256,
            "encoder_sha256": checkpoint.encoder_sha256,
            "vocab": checkpoint.dims.vocab_size,
            "width": checkpoint.dims.width,
        },
    }


def write_shard_files(
    directory: Path, shard: str, tables: dict[str, pa.Table], tensors: dict[str, Tensor]
) -> dict[str, str]:
    """Write a shard's files (`tables` by the prefix of their file name); returns their names and hashes."""
    files = {}
    for prefix, table in tables.items():
        path = directory / f"{prefix}-{shard}.parquet"
        row_group_size = ROW_GROUP_WINDOWS if prefix == "topk" else None
        with atomic_write_path(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)
        files[path.name] = file_sha256(path)
    if tensors:
        path = directory / f"states-{shard}.safetensors"
        with atomic_write_path(path) as temporary:
            save_file(tensors, temporary)
        files[path.name] = file_sha256(path)
    return files


def _check_same_header(store: LabelStore, header: dict[str, JsonValue]) -> None:
    """Raises `StoreError` that names every setting that differs."""
    differing_keys = [key for key in header if store.manifest.get(key) != header[key]]
    if not differing_keys:
        return
    differences = []
    for key in ("settings", "teacher"):
        old, new = store.manifest.get(key), header[key]
        if isinstance(old, dict) and isinstance(new, dict):
            names = sorted((old.keys() | new.keys()) - {"encoder_sha256"})
            differences += [f"{n} {old.get(n)}, now {new.get(n)}" for n in names if old.get(n) != new.get(n)]
    raise StoreError(
        f"{store.directory} holds labels made with other {' and '.join(differing_keys)} "
        f"({'; '.join(differences) or 'format'}): name another --output, or delete that folder"
    )
