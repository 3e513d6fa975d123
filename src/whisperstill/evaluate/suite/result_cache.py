"""Cache of finished transcriptions and timings, each under a hash of everything it depends on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write, file_sha256
from whisperstill.records import Utterance
from whisperstill.records.json_value import JsonValue

CacheEntry: TypeAlias = dict[str, Any]
"""A JSON object; each caller knows the keys of its own entries."""


class ResultCache:
    """Finished results in `folder/cache`, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "cache"

    @staticmethod
    def compute_key(**inputs: JsonValue) -> str:
        """Hash of everything that a result depends on, whisperstill's version included."""
        return hashlib.sha256(json.dumps({**inputs, "version": __version__}, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> CacheEntry | None:
        """The entry under a key; None where there is none, or its file is damaged."""
        try:
            content = json.loads((self._folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def put(self, key: str, entry: Mapping[str, JsonValue]) -> None:
        """Stores an entry."""
        atomic_write(self._folder / f"{key}.json", json.dumps(entry, ensure_ascii=False))


def hash_utterances(utterances: Sequence[Utterance]) -> str:
    """Hash of a dataset: ids, transcripts, languages, spans and the content of audio files (for remote audio its
    address)."""
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
