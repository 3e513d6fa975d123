"""What the columns of a manifest, a table or a data set are called, in the words of those who publish them."""

from collections.abc import Iterable
from pathlib import Path

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
"""Meaning -> names, the first that is there counts."""


def match_columns(columns: Iterable[str]) -> dict[str, str]:
    """Which column carries which meaning; upper and lower case alike."""
    by_lower_name = {column.strip().lower(): column for column in reversed(list(columns))}
    matches = {
        field: next((by_lower_name[alias] for alias in aliases if alias in by_lower_name), None)
        for field, aliases in COLUMN_ALIASES.items()
    }
    return {field: column for field, column in matches.items() if column is not None}


def optional_str(value: object) -> str | None:
    """A value of an id, speaker, language or session as text; None where there is none."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    return str(value).strip() or None


def default_id(audio: str, start: float) -> str:
    """The id of what has none: its file's name, and where in the file it begins."""
    return Path(audio).with_suffix("").as_posix() + (f"@{start:g}" if start else "")


def resolve_audio_path(folder: Path, audio: str) -> Path:
    """Where a manifest's audio lies: beside it, or where its address will be fetched to."""
    if is_remote(audio):
        return cache_path(audio)
    folder_address = url_of(folder)
    return folder / audio if folder_address is None else cache_path(f"{folder_address}/{audio}")
