"""A manifest with one JSON object a line.

    {"id": "a-1", "audio": "audio/a-1.opus", "text": "HELLO" | null, "duration_s": 1.2, "language": "en",
     "speaker": "7", "chapter": "3", "segments": [{"start": 0.0, "end": 1.2, "text": "HELLO"}]}

Only `audio` must be there; it is relative to the manifest's folder, or an address (`s3://bucket/a-1.opus`). A recording
with `segments` becomes one utterance per segment, of the session that the recording is, or is read whole where that is
asked for. An empty text says that nothing is said; null, that nobody knows.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisperstill.corpus.columns import audio_path, meanings, name_of, word
from whisperstill.corpus.corpus import Entry
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped

SUFFIXES = (".jsonl", ".json", ".ndjson")
PAST_END_SECONDS = 0.1  # a segment may end that much later than its recording, for rounding
DECIMALS = 6  # differences of times are rounded to microseconds


def recognises(source: Path) -> bool:
    """A file named so, or a folder with exactly one of them or with `manifest.jsonl`."""
    return (source.is_file() and source.suffix.lower() in SUFFIXES) or _manifest_in(source) is not None


def entries(source: Path, whole: bool = False) -> Iterator[Entry | Skipped]:
    """One entry per line or segment; of `whole` recordings one per line, with its text, else that of its segments."""
    manifest = _manifest_in(source) or source
    if not manifest.is_file():
        raise CorpusError(f"expected a JSONL manifest at {source}, found none")
    with manifest.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{manifest.name}:{number}"
            try:
                yield from _line(where, manifest.parent, line, whole)
            except CorpusError as error:
                yield Skipped(where, str(error))


def _manifest_in(source: Path) -> Path | None:
    if not source.is_dir():
        return None
    if (source / "manifest.jsonl").is_file():
        return source / "manifest.jsonl"
    found = list(source.glob("*.jsonl"))
    return found[0] if len(found) == 1 else None


def _line(where: str, folder: Path, line: bytes, whole: bool) -> Iterator[Entry | Skipped]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"is no UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"is no JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise CorpusError("is no manifest line: nested too deeply") from error
    if not isinstance(row, dict):
        raise CorpusError(f"expected a JSON object, got {type(row).__name__}")
    columns = meanings(row)
    values = {meaning: row[column] for meaning, column in columns.items()}
    audio = values.get("audio")
    if not isinstance(audio, str) or not audio or "\0" in audio:
        raise CorpusError("expected the key audio with a file's name" + (f", got {audio!r}" if audio else ""))
    start = _seconds(values.get("start"), "start") or 0.0
    recording = Entry(
        source=where,
        id=word(values.get("id")) or name_of(audio, start),
        path=audio_path(folder, audio),
        text=_text(values.get("text")),
        language=word(values.get("language")),
        speaker=word(values.get("speaker")),
        session=word(values.get("session")),
        start=start,
        duration=_seconds(values.get("duration"), "duration"),
    )
    segments = row.get("segments")
    if segments is None:
        yield recording
    elif not isinstance(segments, list):
        raise CorpusError(f"expected a list of segments, got {type(segments).__name__}")
    elif whole:
        yield recording if recording.text is not None else replace(recording, text=_joined(recording, segments))
    else:
        for number, segment in enumerate(segments):
            try:
                yield _segment(recording, number, segment)
            except CorpusError as error:
                yield Skipped(f"{where} segment {number}", str(error))


def _joined(recording: Entry, segments: list[Any]) -> str | None:
    """What is said in all segments, in order of time; None where one of them does not hold or does not say it."""
    try:
        parts = sorted((_segment(recording, *one) for one in enumerate(segments)), key=lambda one: one.start)
    except CorpusError:
        return None
    texts = [one.text for one in parts]
    return None if None in texts else " ".join(text for text in texts if text)


def _segment(recording: Entry, number: int, segment: Any) -> Entry:
    if not isinstance(segment, dict):
        raise CorpusError(f"expected a JSON object, got {type(segment).__name__}")
    start, end = _seconds(segment.get("start"), "start"), _seconds(segment.get("end"), "end")
    if start is None or end is None or not 0 <= start < end:
        raise CorpusError(f"expected 0 <= start < end, got {start} and {end}")
    if recording.duration is not None and end > recording.duration + PAST_END_SECONDS:
        raise CorpusError(f"ends at {end:g} s, but its recording is {recording.duration:g} s long")
    return Entry(
        source=f"{recording.source} segment {number}",
        id=word(segment.get("id")) or f"{recording.id}#{number:04d}",
        path=recording.path,
        text=_text(segment.get("text")),
        language=word(segment.get("language")) or recording.language,
        speaker=word(segment.get("speaker")) or recording.speaker,
        session=recording.session or recording.id,
        start=round(recording.start + start, DECIMALS),
        duration=round(end - start, DECIMALS),
    )


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"expected text or null, got {type(value).__name__}")
    return value


def _seconds(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorpusError(f"expected {name} in seconds, got {value!r}")
    return float(value)
