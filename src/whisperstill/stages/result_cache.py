"""What `evaluate` has finished, each pair of model and corpus under a hash of all that it depends on."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write, file_sha256
from whisperstill.records import Utterance


class ResultCache:
    """Finished work in `folder/cache`, one file each, and the hypotheses beside the results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written_names: dict[str, tuple[str, str]] = {}

    @staticmethod
    def digest(content: bytes) -> str:
        """SHA-256."""
        return hashlib.sha256(content).hexdigest()

    def compute_key(self, **inputs: Any) -> str:
        """The hash of all that an outcome depends on."""
        return self.digest(json.dumps({**inputs, "version": __version__}, sort_keys=True).encode())

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under a key; None when it is not there, or not whole."""
        try:
            content = json.loads((self._folder / "cache" / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        """Keep an outcome."""
        atomic_write(self._folder / "cache" / f"{key}.json", json.dumps(entry, ensure_ascii=False))

    def write_hypotheses(self, model: str, dataset: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """`hypotheses-<model>-<corpus>.jsonl`; a number goes before the ending where two pairs would share a name."""
        stem = f"hypotheses-{_slug(model)}-{_slug(dataset)}"
        name, number = stem, 1
        while self._written_names.setdefault(name, (model, dataset)) != (model, dataset):
            number += 1
            name = f"{stem}-{number}"
        path = self._folder / f"{name}.jsonl"
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path


def hash_utterances(utterances: Sequence[Utterance]) -> str:
    """Hash of a corpus's utterances: what is said, and where in which sound. Files are read; of what lies elsewhere
    the address is taken."""
    files = {utterance.audio.path: "" for utterance in utterances}
    for path in files:
        files[path] = file_sha256(Path(path)) if Path(path).is_file() else path
    digest = hashlib.sha256()
    for utterance in utterances:
        utterance_fields = [
            utterance.id,
            files[utterance.audio.path],
            utterance.audio.start,
            utterance.audio.duration,
            utterance.text,
            utterance.language,
        ]
        digest.update(json.dumps(utterance_fields).encode() + b"\n")
    return digest.hexdigest()


def _slug(name: str) -> str:
    """The last part of a path or name, in letters that every file system takes."""
    parts = [part for part in re.split(r"[/\\]", name) if part and part != "."]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", parts[-1] if parts else name).strip(".") or "model"
