"""The label store: shards on disk and the manifest that is the only truth about them.

    manifest.json              settings, teacher, the plan's hash, finished shards with a SHA-256 per file
    labels-00000.parquet       windows, utterances, evidence, tokens      (see `label.schema`)
    top-00000.parquet          top-k logits and log-sum-exps
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

from whisperstill.errors import NotFoundError, StoreError
from whisperstill.files import file_sha256, remove_left_over, whole, write_whole
from whisperstill.label.schema import labelled_from
from whisperstill.label.top import GROUP, TopK, TopReader
from whisperstill.records import Labelled

FORMAT = 1
MANIFEST = "manifest.json"


def plan_hash(windows: Iterable[str]) -> str:
    """Hash of a shard's planned windows, by their ids."""
    return hashlib.sha256("\n".join(windows).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard."""

    name: str
    windows: int
    hours: float
    files: dict[str, str]
    """File name -> SHA-256."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    plan: str = ""
    """Hash of the windows it was planned to hold."""


class LabelStore:
    """A label store, open for reading."""

    def __init__(self, directory: Path, manifest: dict[str, object]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.shards = [Shard(**shard) for shard in manifest["shards"]]  # type: ignore[attr-defined]
        self._open: dict[str, object] = {}
        self._top = TopReader(directory)

    @property
    def settings(self) -> dict[str, object]:
        """Settings it was made with."""
        return self.manifest["settings"]  # type: ignore[return-value]

    @property
    def finished(self) -> bool:
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

    def labelled(self) -> Iterator[Labelled]:
        """All windows, in the order of the plan."""
        for shard in self.shards:
            for row in self._table(f"labels-{shard.name}.parquet").to_pylist():
                yield labelled_from(row, shard.name)

    def top(self, labelled: Labelled) -> TopK:
        """Top-k of a window. Raises `StoreError` when the store was made without."""
        return self._top.read(labelled.shard, labelled.window.id)

    def states(self, labelled: Labelled) -> Tensor:
        """Encoder states `[positions, width]` of a window, in the type they were kept in or float32 from int8."""
        states = self._tensor(labelled.shard, labelled.window.id)
        if states.dtype == torch.int8:
            return states.float() * self._tensor(labelled.shard, f"{labelled.window.id}/scale").float()
        return states

    def hidden(self, labelled: Labelled) -> Tensor:
        """The teacher's last hidden states `[steps, width]` at a window's tokens."""
        return self._tensor(labelled.shard, f"{labelled.window.id}/hidden")

    def _tensor(self, shard: str, key: str) -> Tensor:
        if shard not in self._open:
            path = self.directory / f"states-{shard}.safetensors"
            if not path.exists():
                raise StoreError(f"{self.directory} holds no encoder states: label with --states bf16 (or int8)")
            self._open[shard] = safe_open(str(path), framework="pt")
        handle = self._open[shard]
        try:
            return handle.get_tensor(key)  # type: ignore[attr-defined,no-any-return]
        except Exception as error:
            raise StoreError(f"states-{shard}.safetensors has no {key}: label again with --states") from error

    def _table(self, name: str):  # type: ignore[no-untyped-def]
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
    if manifest.get("kind") != "labels" or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is not a label store of format {FORMAT}")
    return LabelStore(directory, manifest)


def write_shard(directory: Path, name: str, tables: dict[str, object], tensors: dict[str, Tensor]) -> dict[str, str]:
    """Write a shard's files (`tables`: prefix -> Arrow table); gives their names and hashes."""
    files = {}
    for prefix, table in tables.items():
        path = directory / f"{prefix}-{name}.parquet"
        with whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=GROUP if prefix == "top" else None)
        files[path.name] = file_sha256(path)
    if tensors:
        path = directory / f"states-{name}.safetensors"
        with whole(path) as temporary:
            save_file(tensors, temporary)
        files[path.name] = file_sha256(path)
    return files


def _unlike(old: dict[str, object], new: dict[str, object]) -> str:
    """What two headers say differently, name by name."""
    found = []
    for key in ("settings", "teacher"):
        before, now = old.get(key), new[key]
        if isinstance(before, dict) and isinstance(now, dict):
            names = sorted(name for name in before | now if before.get(name) != now.get(name))
            found += [f"{name} {before.get(name)}, now {now.get(name)}" for name in names if name != "encoder_sha256"]
    return "; ".join(found) or "format"


class StoreWriter:
    """A label store, open for adding the shards that are missing."""

    def __init__(self, directory: Path, header: dict[str, object], plan: dict[str, str]) -> None:
        """Begin, resume or extend.

        `header` holds all that decides the content, settings and teacher; `plan` gives the hash of every shard's
        windows. A plan that keeps the shards that are finished may grow: more corpora, more packings.
        Raises `StoreError` when the folder holds labels made from another header or of other audio.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        header = json.loads(json.dumps({"kind": "labels", "format": FORMAT, **header}))
        path = directory / MANIFEST
        if path.exists():
            old = open_labels(directory).manifest
            differing = [key for key in header if old.get(key) != header[key]]
            if differing:
                raise StoreError(
                    f"{directory} holds labels made with other {' and '.join(differing)} ({_unlike(old, header)}): "
                    "name another --output, or delete that folder"
                )
            changed = [shard["name"] for shard in old["shards"] if plan.get(shard["name"]) != shard["plan"]]  # type: ignore[attr-defined]
            if changed:
                raise StoreError(
                    f"{directory} holds labels of other audio (shard {changed[0]}): name another --output, put new "
                    "corpora after the old ones, or delete that folder"
                )
            self._manifest: dict[str, object] = old
        else:
            self._manifest = {**header, "shards": []}
        self._manifest["planned_shards"] = len(plan)
        self.save()
        remove_left_over(directory)

    @property
    def finished(self) -> dict[str, Shard]:
        """Finished shards by name."""
        return {shard["name"]: Shard(**shard) for shard in self._manifest["shards"]}  # type: ignore[attr-defined]

    def add(self, shard: Shard) -> None:
        """Name a shard, whose files are written, in the manifest."""
        shards = [old for old in self._manifest["shards"] if old["name"] != shard.name] + [asdict(shard)]  # type: ignore[attr-defined]
        self._manifest["shards"] = sorted(shards, key=lambda entry: entry["name"])
        self.save()

    def save(self) -> None:
        """Write the manifest."""
        content = json.dumps(self._manifest, indent=1, sort_keys=True, ensure_ascii=False)
        write_whole(self.directory / MANIFEST, content)
