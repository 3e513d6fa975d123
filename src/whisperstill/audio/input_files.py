"""Input of `transcribe`: audio files, folders, URLs and standard input."""

from pathlib import Path

from whisperstill.errors import AudioError, NotFoundError
from whisperstill.records import Skipped
from whisperstill.remote_files import cache_path, download, is_remote, is_remote_directory, list_files, url_of

STDIN_PATH = Path("-")


def collect_audio(sources: tuple[str, ...]) -> tuple[list[Path], list[Skipped]]:
    """Audio files named by files, folders and URLs, in order and without duplicates, and the sources that have none.

    `-` is standard input.
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
                        except NotFoundError as error:  # other files may exist
                            problems.append(Skipped(url_of(file) or source, str(error)))
            elif path.is_dir():
                files = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
                candidates = sorted(file for file in files if file.is_file())
                if not candidates:
                    problems.append(Skipped(source, f"expected audio files in {source}, got none"))
                for file in candidates:
                    audio_files.setdefault(file.resolve(), file)
            elif path.is_file():
                audio_files.setdefault(path.resolve(), path)
            elif path.exists():
                reason = f"expected a regular file or a folder, got {source}; pipe it into standard input and give -"
                problems.append(Skipped(source, reason))
            else:
                problems.append(Skipped(source, f"expected an audio file or a folder at {source}, got nothing"))
        except NotFoundError as error:
            problems.append(Skipped(source, str(error)))
        except OSError as error:  # a name that is too long, an unreadable folder
            problems.append(Skipped(source, f"cannot look for {_printable_path(path)}: {error.strerror}"))
    for resolved, path in list(audio_files.items()):
        if (printable := _printable_path(path)) != str(path):
            problems.append(Skipped(printable, f"expected a UTF-8 file name, got {printable}; rename it"))
            del audio_files[resolved]
    return list(audio_files.values()), problems


def read_durations(paths: list[Path]) -> tuple[dict[Path, float], list[Skipped]]:
    """Seconds of every readable file (standard input: 0), and the files that cannot be read."""
    from whisperstill.audio.audio_files import probe_duration

    durations: dict[Path, float] = {}
    unreadable: list[Skipped] = []
    for path in paths:
        try:
            durations[path] = 0.0 if path == STDIN_PATH else probe_duration(path)
        except (AudioError, OSError) as error:
            unreadable.append(Skipped(str(path), str(error)))
    return durations, unreadable


def _printable_path(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode("utf-8")
