"""What the columns of a manifest, a table or a data set are called, in the words of those who publish them."""

from collections.abc import Iterable
from pathlib import Path

from whisperstill.remote import address_of, is_remote, place_of

NAMES = {
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


def meanings(columns: Iterable[str]) -> dict[str, str]:
    """Which column carries which meaning; upper and lower case alike."""
    there = {column.strip().lower(): column for column in reversed(list(columns))}
    found = {meaning: next((there[name] for name in names if name in there), None) for meaning, names in NAMES.items()}
    return {meaning: column for meaning, column in found.items() if column is not None}


def word(value: object) -> str | None:
    """A value of an id, speaker, language or session as text; None where there is none."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    return str(value).strip() or None


def name_of(audio: str, start: float) -> str:
    """The id of what has none: its file's name, and where in the file it begins."""
    return Path(audio).with_suffix("").as_posix() + (f"@{start:g}" if start else "")


def audio_path(folder: Path, audio: str) -> Path:
    """Where a manifest's audio lies: beside it, or where its address will be fetched to."""
    if is_remote(audio):
        return place_of(audio)
    beside = address_of(folder)
    return folder / audio if beside is None else place_of(f"{beside}/{audio}")
