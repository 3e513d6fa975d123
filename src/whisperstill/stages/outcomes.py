"""What `evaluate` has finished, each pair of model and corpus under a hash of all that it depends on."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisperstill._version import __version__
from whisperstill.files import file_sha256, write_whole
from whisperstill.records import Utterance


class Outcomes:
    """Finished work in `folder/finished`, one file each, and the hypotheses beside the results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, tuple[str, str]] = {}

    @staticmethod
    def digest(content: bytes) -> str:
        """SHA-256."""
        return hashlib.sha256(content).hexdigest()

    def key(self, **depends_on: Any) -> str:
        """The hash of all that an outcome depends on."""
        return self.digest(json.dumps({**depends_on, "version": __version__}, sort_keys=True).encode())

    def find(self, key: str) -> dict[str, Any] | None:
        """What was kept under a key; None when it is not there, or not whole."""
        try:
            content = json.loads((self._folder / "finished" / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def keep(self, key: str, outcome: Mapping[str, Any]) -> None:
        """Keep an outcome."""
        write_whole(self._folder / "finished" / f"{key}.json", json.dumps(outcome, ensure_ascii=False))

    def write_hypotheses(self, model: str, corpus: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """`hypotheses-<model>-<corpus>.jsonl`; a number goes before the ending where two pairs would share a name."""
        stem = f"hypotheses-{_slug(model)}-{_slug(corpus)}"
        name, number = stem, 1
        while self._written.setdefault(name, (model, corpus)) != (model, corpus):
            number += 1
            name = f"{stem}-{number}"
        path = self._folder / f"{name}.jsonl"
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path


def corpus_digest(utterances: Sequence[Utterance]) -> str:
    """Hash of a corpus's utterances: what is said, and where in which sound. Files are read; of what lies elsewhere
    the address is taken."""
    files = {one.audio.path: "" for one in utterances}
    for path in files:
        files[path] = file_sha256(Path(path)) if Path(path).is_file() else path
    digest = hashlib.sha256()
    for one in utterances:
        seen = [one.id, files[one.audio.path], one.audio.start, one.audio.duration, one.text, one.language]
        digest.update(json.dumps(seen).encode() + b"\n")
    return digest.hexdigest()


def _slug(name: str) -> str:
    """The last part of a path or name, in letters that every file system takes."""
    last = [part for part in re.split(r"[/\\]", name) if part and part != "."]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last[-1] if last else name).strip(".") or "model"
