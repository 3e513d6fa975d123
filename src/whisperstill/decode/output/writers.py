"""Transcript files: txt, srt, vtt, tsv, json, as openai/whisper writes them, and their names."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Literal

from whisperstill.atomic_io import atomic_write
from whisperstill.audio.input_files import STDIN_PATH
from whisperstill.decode.output.subtitles import Cue, make_cues
from whisperstill.decode.output.transcript import Segment, Transcript
from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions

STDIN_NAME = "stdin"
OutputFormat = Literal["txt", "vtt", "srt", "tsv", "json"]


def format_timestamp(seconds: float, decimal_marker: str = ".", always_include_hours: bool = False) -> str:
    """`01:02.345`, or `00:01:02,345` with hours and a comma. Negative times are 0; hours are left out if 0."""
    whole_seconds, milliseconds = divmod(max(0, round(seconds * 1000)), 1000)
    minutes, hours = whole_seconds // 60 % 60, whole_seconds // 3600
    hours_prefix = f"{hours:02d}:" if hours or always_include_hours else ""
    return f"{hours_prefix}{minutes:02d}:{whole_seconds % 60:02d}{decimal_marker}{milliseconds:03d}"


def to_txt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """One line per segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_srt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """SubRip: numbered cues, times with hours and a comma. Raises `SettingsError` as `make_cues`."""
    cues = enumerate(make_cues(transcript, options), 1)
    return "".join(f"{number}\n{_format_cue(cue, ',', always_include_hours=True)}" for number, cue in cues)


def to_vtt(transcript: Transcript, options: LineOptions | None = None) -> str:
    """WebVTT. Raises `SettingsError` as `make_cues`."""
    return "WEBVTT\n\n" + "".join(_format_cue(cue) for cue in make_cues(transcript, options))


def _format_cue(cue: Cue, decimal_marker: str = ".", always_include_hours: bool = False) -> str:
    start, end = (format_timestamp(ms / 1000, decimal_marker, always_include_hours) for ms in (cue.start, cue.end))
    return f"{start} --> {end}\n{cue.text}\n\n"


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
        content["filtered_segments"] = [asdict(filtered) for filtered in transcript.filtered_segments]
    return json.dumps(content, ensure_ascii=False) + "\n"


def _segment_to_dict(segment: Segment) -> dict[str, object]:
    """A segment under openai/whisper's keys."""
    fields = {name: value for name, value in asdict(segment).items() if name != "words"}
    if segment.words is not None:
        names = ("word", "start", "end", "probability")
        fields["words"] = [{name: getattr(word, name) for name in names} for word in segment.words]
    return fields


WRITERS: dict[OutputFormat, Callable[[Transcript, LineOptions | None], str]] = {
    "txt": to_txt,
    "vtt": to_vtt,
    "srt": to_srt,
    "tsv": to_tsv,
    "json": to_json,
}


class TranscriptFiles:
    """Transcript files of a list of audio files."""

    def __init__(self, directory: Path, output_format: str, lines: LineOptions, audio_paths: list[Path]) -> None:
        """`output_format` may be `all`; `lines` are for srt and vtt. Raises `SettingsError` for an unknown format."""
        self._directory, self._lines, self._names = directory, lines, unique_output_names(audio_paths)
        self._formats = [name for name in WRITERS if output_format in (name, "all")]
        if not self._formats:
            raise SettingsError(f"expected an output format of {', '.join(WRITERS)} or all, got {output_format!r}")

    def exist(self, audio_path: Path) -> bool:
        """Whether all transcripts of a file exist and are no older than it; never for standard input."""
        modified = audio_path.stat().st_mtime if audio_path.is_file() else 0.0
        outputs = self._outputs(audio_path).values()
        return audio_path != STDIN_PATH and all(path.is_file() and path.stat().st_mtime >= modified for path in outputs)

    def prepare(self, audio_paths: Iterable[Path]) -> None:
        """Make the folder and remove what a killed run left of these files' transcripts.

        Raises `SettingsError` if the folder is not writable.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory):
                pass
        except OSError as error:
            raise SettingsError(f"output_dir: cannot write into {self._directory}: {error.strerror}") from error
        outputs = {output.name for path in audio_paths for output in self._outputs(path).values()}
        remove_partial_outputs(self._directory, outputs)

    def write(self, audio_path: Path, transcript: Transcript) -> list[Path]:
        """Write the transcripts of a file, each atomically, and none if one cannot be formatted. Returns the paths.

        Raises `OSError`, and `SettingsError` as `make_cues`.
        """
        outputs = self._outputs(audio_path)
        contents = {path: WRITERS[name](transcript, self._lines) for name, path in outputs.items()}
        self._directory.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            atomic_write(path, content)
        return list(contents)

    def _outputs(self, audio_path: Path) -> dict[OutputFormat, Path]:
        return {name: self._directory / f"{self._names[audio_path]}.{name}" for name in self._formats}


def unique_output_names(paths: list[Path]) -> dict[Path, str]:
    """For each audio file the name of its transcripts, without extension.

    The file's stem, `stdin` for standard input. Files with equal stems get as much of extension and folders as makes
    them unique: `talk.wav` and `talk.mp3`, `monday-talk` and `friday-talk`. Names differ in more than case, for
    case-insensitive file systems.
    """
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(_stem(path).casefold(), []).append(path)
    names: dict[Path, str] = {}
    used_names = set(groups)
    for stem, group in groups.items():
        if len(group) == 1:
            names[group[0]] = _stem(group[0])
            continue
        for level in count(1):
            long_names = [_disambiguated_name(path, number, level) for number, path in enumerate(group)]
            folded = {name.casefold() for name in long_names}
            if len(folded) == len(group) and not folded & (used_names - {stem}):
                names.update(zip(group, long_names, strict=True))
                used_names |= folded
                break
    return names


def remove_partial_outputs(directory: Path, outputs: set[str]) -> None:
    """Remove the temporary files that a killed process left of these outputs (file names)."""
    for partial_file in directory.glob(".*.part"):
        if partial_file.name[1:].removesuffix(".part").rpartition(".")[0] in outputs:
            partial_file.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    return STDIN_NAME if path == STDIN_PATH else path.stem


def _disambiguated_name(path: Path, number: int, level: int) -> str:
    """Name by level: file name, folder and stem, folder and file name, two folders ...; numbered from level 65 on."""
    depth, keep_suffix = divmod(level, 2)
    folders = path.resolve().parent.parts[1:]
    name = path.name if keep_suffix and path != STDIN_PATH else _stem(path)
    long_name = "-".join([*folders[max(0, len(folders) - depth) :], name])
    return long_name if level <= 64 else f"{long_name}-{number}-{level}"
