"""What `transcribe` reads, and what its outputs are called: files, folders, and standard input."""

from itertools import count
from pathlib import Path

from whisperstill.errors import AudioError, NotFoundError
from whisperstill.records import Skipped
from whisperstill.remote_files import cache_path, download, is_remote, is_remote_directory, list_files, url_of

STDIN_PATH = Path("-")
STDIN_NAME = "stdin"


def collect_audio(sources: tuple[str, ...]) -> tuple[list[Path], list[Skipped]]:
    """Audio files of files, folders and addresses, in order, each once.

    What is not there or holds no audio is a problem. `-` is standard input and stays as it is.
    """
    from whisperstill.audio.audio_files import AUDIO_SUFFIXES

    audio_files: dict[Path, Path] = {}
    problems: list[Skipped] = []
    for source in sources:
        path = Path(source).expanduser()
        try:
            if source == str(STDIN_PATH):
                audio_files.setdefault(STDIN_PATH, STDIN_PATH)
            elif is_remote(source):
                candidates = list_files(source) if is_remote_directory(source) else [cache_path(source)]
                for file in candidates:
                    if candidates == [cache_path(source)] or file.suffix.lower() in AUDIO_SUFFIXES:
                        try:
                            audio_files.setdefault(file, download(file))
                        except NotFoundError as error:  # the others may be had
                            problems.append(Skipped(url_of(file) or source, str(error)))
            elif path.is_dir():
                files = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
                candidates = sorted(file for file in files if file.is_file())
                if not candidates:
                    problems.append(Skipped(source, f"expected audio files in {source}, found none"))
                for file in candidates:
                    audio_files.setdefault(file.resolve(), file)
            elif path.is_file():
                audio_files.setdefault(path.resolve(), path)
            elif path.exists():
                problems.append(Skipped(source, f"{source} is no regular file: write - and send it to standard input"))
            else:
                problems.append(Skipped(source, f"expected an audio file or a folder at {source}, found nothing"))
        except NotFoundError as error:
            problems.append(Skipped(source, str(error)))
        except OSError as error:  # a name that is too long, a folder that may not be read
            problems.append(Skipped(source, f"cannot look for {_printable_path(path)}: {error.strerror}"))
    for resolved, path in list(audio_files.items()):
        if _printable_path(path) != str(path):
            problems.append(
                Skipped(_printable_path(path), f"the name of {_printable_path(path)} is no UTF-8: rename it")
            )
            del audio_files[resolved]
    return list(audio_files.values()), problems


def _printable_path(path: Path) -> str:
    """A path as it can be printed."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def read_durations(paths: list[Path], problems: list[Skipped]) -> dict[Path, float]:
    """Seconds of every file that can be read; the others are added to the problems. Those of standard input are 0."""
    from whisperstill.audio.audio_files import probe_duration

    seconds: dict[Path, float] = {}
    for path in paths:
        try:
            seconds[path] = 0.0 if path == STDIN_PATH else probe_duration(path)
        except (AudioError, OSError) as error:
            problems.append(Skipped(str(path), str(error)))
    return seconds


def unique_output_names(paths: list[Path]) -> dict[Path, str]:
    """A name without ending for the transcripts of each file, no two alike.

    The file's stem, `stdin` for standard input; where several share one, as much of ending and folders as tells them
    apart: `talk.wav` and `talk.mp3`, `monday-talk` and `friday-talk`. Names differ in more than case, for file systems
    that do not know it.
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
    """Remove what a killed process left of these outputs (file names), with one look at the folder."""
    for partial_file in directory.glob(".*.part"):
        if partial_file.name[1:].removesuffix(".part").rpartition(".")[0] in outputs:
            partial_file.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    return STDIN_NAME if path == STDIN_PATH else path.stem


def _disambiguated_name(path: Path, number: int, level: int) -> str:
    """Stem, name, folder and stem, folder and name, two folders ...; numbered where even all folders do not help."""
    depth, keep_suffix = divmod(level, 2)
    folders = path.resolve().parent.parts[1:]
    name = path.name if keep_suffix and path != STDIN_PATH else _stem(path)
    long_name = "-".join([*folders[max(0, len(folders) - depth) :], name])
    return long_name if level <= 64 else f"{long_name}-{number}-{level}"
