"""Transcripts as text files: txt, srt, vtt, tsv, json, as openai/whisper writes them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from whisperstill.atomic_io import atomic_write
from whisperstill.decode.output.subtitles import make_cues
from whisperstill.decode.output.transcript import Segment, Transcript
from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions

OutputFormat = Literal["txt", "vtt", "srt", "tsv", "json"]


def format_timestamp(seconds: float, decimal_marker: str = ".", always_include_hours: bool = False) -> str:
    """`01:02.345`, or `00:01:02,345` with hours and a comma. Negative times are 0; hours are left out if 0."""
    total = max(0, round(seconds * 1000))
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole_seconds, milliseconds = divmod(rest, 1000)
    hours_prefix = f"{hours:02d}:" if hours or always_include_hours else ""
    return f"{hours_prefix}{minutes:02d}:{whole_seconds:02d}{decimal_marker}{milliseconds:03d}"


def to_txt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """One line per segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_srt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """SubRip: numbered cues, times with hours and a comma. Raises `SettingsError` as `make_cues`."""
    return "".join(
        f"{number}\n{format_timestamp(cue.start / 1000, ',', True)} --> "
        f"{format_timestamp(cue.end / 1000, ',', True)}\n{cue.text}\n\n"
        for number, cue in enumerate(make_cues(transcript, options), 1)
    )


def to_vtt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """WebVTT. Raises `SettingsError` as `make_cues`."""
    cues = (
        f"{format_timestamp(cue.start / 1000)} --> {format_timestamp(cue.end / 1000)}\n{cue.text}\n\n"
        for cue in make_cues(transcript, options)
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_tsv(transcript: Transcript, options: LineOptions | None = None) -> str:
    """Start and end in milliseconds and text, separated by tabs."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{' '.join(segment.text.split())}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_json(transcript: Transcript, options: LineOptions | None = None) -> str:
    """Text, segments and language under openai/whisper's keys, with `language_probability` and `duration`.

    `words` with word timestamps only, `filtered_segments` and `read_error` only if there are any.
    """
    content: dict[str, object] = {
        "text": transcript.text,
        "segments": [_segment_to_dict(segment) for segment in transcript.segments],
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "duration": transcript.duration,
    }
    if transcript.read_error:
        content["read_error"] = transcript.read_error
    if transcript.filtered_segments:
        content["filtered_segments"] = [asdict(filtered_segment) for filtered_segment in transcript.filtered_segments]
    return json.dumps(content, ensure_ascii=False) + "\n"


WRITERS: dict[OutputFormat, Callable[[Transcript, LineOptions | None], str]] = {
    "txt": to_txt,
    "vtt": to_vtt,
    "srt": to_srt,
    "tsv": to_tsv,
    "json": to_json,
}


def resolve_formats(name: str) -> tuple[OutputFormat, ...]:
    """The formats of a name; `all` is all of them. Raises `SettingsError` for an unknown name."""
    formats = tuple(format_ for format_ in WRITERS if name in (format_, "all"))
    if not formats:
        raise SettingsError(f"expected an output format of {', '.join(WRITERS)} or all, got {name!r}")
    return formats


def write_transcript(
    transcript: Transcript, directory: Path, stem: str, output_format: str = "all", options: LineOptions | None = None
) -> list[Path]:
    """Write `directory/stem.<format>`, each atomically, and none if one cannot be formatted. Returns the paths.

    Line options apply to srt and vtt. Raises `SettingsError` for an unknown format and as `make_cues`.
    """
    contents = {
        directory / f"{stem}.{name}": WRITERS[name](transcript, options) for name in resolve_formats(output_format)
    }
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        atomic_write(path, content)
    return list(contents)


def _segment_to_dict(segment: Segment) -> dict[str, object]:
    """A segment under openai/whisper's keys."""
    fields = {name: value for name, value in asdict(segment).items() if name != "words"}
    if segment.words is not None:
        fields["words"] = [
            {"word": word.word, "start": word.start, "end": word.end, "probability": word.probability}
            for word in segment.words
        ]
    return fields
