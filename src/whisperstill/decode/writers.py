"""Transcripts as text files: txt, srt, vtt, tsv, json, as openai/whisper writes them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from whisperstill.decode.transcript import Segment, Transcript
from whisperstill.errors import SettingsError
from whisperstill.files import write_whole


def timestamp(seconds: float, mark: str = ".", always_hours: bool = False) -> str:
    """`01:02.345`, or `00:01:02,345` with hours and a comma. Never negative; hours only where there are any."""
    total = max(0, round(seconds * 1000))
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, milliseconds = divmod(rest, 1000)
    lead = f"{hours:02d}:" if hours or always_hours else ""
    return f"{lead}{minutes:02d}:{whole:02d}{mark}{milliseconds:03d}"


def to_txt(transcript: Transcript) -> str:
    """One line a segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, times with hours and a comma."""
    return "".join(
        f"{number}\n{timestamp(segment.start, ',', True)} --> {timestamp(segment.end, ',', True)}\n"
        f"{_cue(segment.text)}\n\n"
        for number, segment in enumerate(transcript.segments, 1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT."""
    cues = (
        f"{timestamp(segment.start)} --> {timestamp(segment.end)}\n{_cue(segment.text)}\n\n"
        for segment in transcript.segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_tsv(transcript: Transcript) -> str:
    """Start and end in milliseconds and the text, separated by tabs."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{' '.join(segment.text.split())}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_json(transcript: Transcript) -> str:
    """Text, segments and language under openai/whisper's keys, and the language's probability and the duration."""
    content = {
        "text": transcript.text,
        "segments": [_told(segment) for segment in transcript.segments],
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "duration": transcript.duration,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "vtt": to_vtt,
    "srt": to_srt,
    "tsv": to_tsv,
    "json": to_json,
}


def formats_of(name: str) -> tuple[str, ...]:
    """`srt` -> that one; `all` -> all of them. Raises `SettingsError` for another name."""
    if name == "all":
        return tuple(WRITERS)
    if name not in WRITERS:
        raise SettingsError(f"expected an output format out of {', '.join(WRITERS)} or all, got {name!r}")
    return (name,)


def write_transcript(transcript: Transcript, directory: Path, stem: str, output_format: str = "all") -> list[Path]:
    """Write `directory/stem.<format>`, each whole or not at all. Gives the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats_of(output_format):
        path = directory / f"{stem}.{name}"
        write_whole(path, WRITERS[name](transcript))
        paths.append(path)
    return paths


def _told(segment: Segment) -> dict[str, object]:
    """A segment under openai/whisper's keys: `words` only where they were asked for."""
    return {name: value for name, value in asdict(segment).items() if name != "words" or value is not None}


def _cue(text: str) -> str:
    """Text that cannot be mistaken for the line between two times, or for the end of a cue."""
    return " ".join(text.replace("-->", "->").split())
