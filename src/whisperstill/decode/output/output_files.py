"""Transcript files of `transcribe`: their names, whether they exist, and writing them."""

import tempfile
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from whisperstill.audio.input_files import STDIN_PATH
from whisperstill.decode.output.transcript import Transcript
from whisperstill.decode.output.writers import resolve_formats, write_transcript
from whisperstill.errors import SettingsError
from whisperstill.text.line_wrapping import LineOptions

STDIN_NAME = "stdin"


class TranscriptFiles:
    """Transcript files of a list of audio files."""

    def __init__(self, directory: Path, output_format: str, lines: LineOptions, audio_paths: list[Path]) -> None:
        self._directory, self._output_format, self._lines = directory, output_format, lines
        self._names = unique_output_names(audio_paths)

    def exist(self, audio_path: Path) -> bool:
        """Whether all transcripts of a file exist and are no older than it; never for standard input."""
        modified = audio_path.stat().st_mtime if audio_path.is_file() else 0.0
        output_paths = [self._directory / name for name in self._file_names(audio_path)]
        return audio_path != STDIN_PATH and all(
            output_path.is_file() and output_path.stat().st_mtime >= modified for output_path in output_paths
        )

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
        outputs = {name for audio_path in audio_paths for name in self._file_names(audio_path)}
        remove_partial_outputs(self._directory, outputs)

    def write(self, audio_path: Path, transcript: Transcript) -> list[Path]:
        """Write the transcripts of a file. Raises `OSError`."""
        name = self._names[audio_path]
        return write_transcript(transcript, self._directory, name, self._output_format, self._lines)

    def _file_names(self, audio_path: Path) -> list[str]:
        return [f"{self._names[audio_path]}.{extension}" for extension in resolve_formats(self._output_format)]


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
