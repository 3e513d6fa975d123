"""One utterance as a corpus layout states it, and the column names that manifests and tables use for its fields."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from whisperstill.audio.audio_files import AUDIO_SUFFIXES
from whisperstill.records.json_value import JsonValue
from whisperstill.remote_files import cache_path, is_remote, url_of

COLUMN_ALIASES = {
    "audio": ("audio", "audio_filepath", "path", "file", "file_name", "filename", "wav"),
    "text": ("text", "sentence", "transcription", "transcript", "raw_transcription", "normalized_text"),
    "id": ("id", "utterance_id", "segment_id"),
    "language": ("language", "locale", "lang"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id"),
    "session": ("session", "session_id", "chapter", "chapter_id"),
    "duration": ("duration", "duration_s", "duration_seconds"),
    "start": ("start", "offset"),
}
"""Column names by field, as published corpora call them; the first one present is used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One utterance as a layout states it, unchecked (`corpus.reading.build_corpus` checks)."""

    source: str
    """Where it is stated: `manifest.jsonl:17`, or the audio file's name."""
    id: str
    path: Path
    text: str | None = None
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    start: float = 0.0
    """Seconds from the beginning of the file."""
    duration: float | None = None
    """Seconds, trusted; None: measured, up to the end of the file."""


def match_columns(columns: Iterable[str]) -> dict[str, str]:
    """Column by field (keys of `COLUMN_ALIASES`); upper and lower case are the same."""
    by_lower_name = {column.strip().lower(): column for column in reversed(list(columns))}
    matches = {
        field: next((by_lower_name[alias] for alias in aliases if alias in by_lower_name), None)
        for field, aliases in COLUMN_ALIASES.items()
    }
    return {field: column for field, column in matches.items() if column is not None}


def optional_str(value: JsonValue) -> str | None:
    """The value of an id, speaker, language or session as text; None when it is empty or not a scalar."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    return str(value).strip() or None


def entry_of_row(
    source: str,
    path: Path,
    default_id: str,
    values: Mapping[str, JsonValue],
    text: str | None,
    start: float,
    duration: float | None,
) -> Entry:
    """Entry of a row; `values` by field hold its id, language, speaker and session."""
    language, speaker, session = (optional_str(values.get(field)) for field in ("language", "speaker", "session"))
    entry_id = optional_str(values.get("id")) or default_id
    return Entry(source, entry_id, path, text, language, speaker, session, start, duration)


def default_id(audio: str, start: float) -> str:
    """Id for an utterance without one: the audio file's name, and its start if that is not 0."""
    return Path(audio).with_suffix("").as_posix() + (f"@{start:g}" if start else "")


def audio_by_stem(folder: Path) -> dict[str, Path]:
    """Audio files directly in a folder, by name without suffix."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES}


def resolve_audio_path(folder: Path, audio: str) -> Path:
    """Path of a manifest's audio: relative to the manifest's folder, or in the cache for a remote file."""
    if is_remote(audio):
        return cache_path(audio)
    folder_url = url_of(folder)
    return folder / audio if folder_url is None else cache_path(f"{folder_url}/{audio}")
