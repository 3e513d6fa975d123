"""JSONL manifests: one JSON object per line.

    {"id": "a-1", "audio": "audio/a-1.opus", "text": "HELLO" | null, "duration_s": 1.2, "language": "en",
     "speaker": "7", "chapter": "3", "segments": [{"start": 0.0, "end": 1.2, "text": "HELLO"}]}

Only `audio` is required: a path relative to the manifest's folder, or a URL (`s3://bucket/a-1.opus`). A recording with
`segments` becomes one utterance per segment, all of one session, or stays one utterance with `full_recordings`. Empty
text means that there is no speech; null, that the transcript is unknown.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from whisperstill.corpus.entry import Entry, default_id, entry_of_row, match_columns, optional_str, resolve_audio_path
from whisperstill.errors import CorpusError
from whisperstill.records import Skipped
from whisperstill.records.json_value import JsonValue

SUFFIXES = (".jsonl", ".json", ".ndjson")
MAX_SEGMENT_OVERRUN_S = 0.1  # a segment may end this much after its recording (rounding)
TIME_DECIMALS = 6  # time differences are rounded to microseconds


def can_read(source: Path) -> bool:
    """Whether it is a file with one of `SUFFIXES`, or a folder with `manifest.jsonl` or exactly one .jsonl file."""
    return (source.is_file() and source.suffix.lower() in SUFFIXES) or _find_manifest(source) is not None


def read_entries(source: Path, full_recordings: bool = False) -> Iterator[Entry | Skipped]:
    """One entry per line or segment.

    With `full_recordings` one per line, with its own text or else the joined text of its segments.
    """
    manifest = _find_manifest(source) or source
    if not manifest.is_file():
        raise CorpusError(f"expected a JSONL manifest at {source}, found none")
    with manifest.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            location = f"{manifest.name}:{line_number}"
            try:
                yield from _parse_line(location, manifest.parent, line, full_recordings)
            except CorpusError as error:
                yield Skipped(location, str(error))


def _find_manifest(source: Path) -> Path | None:
    if not source.is_dir():
        return None
    if (source / "manifest.jsonl").is_file():
        return source / "manifest.jsonl"
    manifests = list(source.glob("*.jsonl"))
    return manifests[0] if len(manifests) == 1 else None


def _parse_line(location: str, folder: Path, line: bytes, full_recordings: bool) -> Iterator[Entry | Skipped]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"invalid UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"invalid JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise CorpusError("invalid JSON: nested too deeply") from error
    if not isinstance(row, dict):
        raise CorpusError(f"expected a JSON object, got {type(row).__name__}")
    values = {field: row[column] for field, column in match_columns(row).items()}
    audio = values.get("audio")
    if not isinstance(audio, str) or not audio or "\0" in audio:
        raise CorpusError("expected a file name under the key audio" + (f", got {audio!r}" if audio else ""))
    start = _parse_seconds(values.get("start"), "start") or 0.0
    text, duration = _parse_text(values.get("text")), _parse_seconds(values.get("duration"), "duration")
    path = resolve_audio_path(folder, audio)
    recording = entry_of_row(location, path, default_id(audio, start), values, text, start, duration)
    segments = row.get("segments")
    if segments is None:
        yield recording
    elif not isinstance(segments, list):
        raise CorpusError(f"expected a list of segments, got {type(segments).__name__}")
    elif full_recordings:
        yield replace(recording, text=_join_segment_texts(recording, segments) if text is None else text)
    else:
        for index, segment in enumerate(segments):
            try:
                yield _parse_segment(recording, index, segment)
            except CorpusError as error:
                yield Skipped(f"{location} segment {index}", str(error))


def _join_segment_texts(recording: Entry, segments: list[JsonValue]) -> str | None:
    """Texts of all segments in order of time; None when a segment is invalid or has no text."""
    try:
        entries = [_parse_segment(recording, index, segment) for index, segment in enumerate(segments)]
    except CorpusError:
        return None
    texts = [entry.text for entry in sorted(entries, key=lambda entry: entry.start)]
    return None if None in texts else " ".join(text for text in texts if text)


def _parse_segment(recording: Entry, index: int, segment: JsonValue) -> Entry:
    if not isinstance(segment, dict):
        raise CorpusError(f"expected a JSON object, got {type(segment).__name__}")
    start, end = _parse_seconds(segment.get("start"), "start"), _parse_seconds(segment.get("end"), "end")
    if start is None or end is None or not 0 <= start < end:
        raise CorpusError(f"expected 0 <= start < end, got {start} and {end}")
    if recording.duration is not None and end > recording.duration + MAX_SEGMENT_OVERRUN_S:
        raise CorpusError(f"ends at {end:g} s, but its recording is {recording.duration:g} s long")
    return replace(
        recording,
        source=f"{recording.source} segment {index}",
        id=optional_str(segment.get("id")) or f"{recording.id}#{index:04d}",
        text=_parse_text(segment.get("text")),
        language=optional_str(segment.get("language")) or recording.language,
        speaker=optional_str(segment.get("speaker")) or recording.speaker,
        session=recording.session or recording.id,
        start=round(recording.start + start, TIME_DECIMALS),
        duration=round(end - start, TIME_DECIMALS),
    )


def _parse_text(value: JsonValue) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"expected text or null, got {type(value).__name__}")
    return value


def _parse_seconds(value: JsonValue, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorpusError(f"expected {name} in seconds, got {value!r}")
    return float(value)
