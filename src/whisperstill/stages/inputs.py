"""What `transcribe` reads, and what its outputs are called: files, folders, and standard input."""

from itertools import count
from pathlib import Path

from whisperstill.errors import AudioError, NotFoundError
from whisperstill.records import Skipped
from whisperstill.remote import address_of, fetched, is_folder, is_remote, listed, place_of

STANDARD_INPUT = Path("-")
STANDARD_NAME = "stdin"


def collect(sources: tuple[str, ...]) -> tuple[list[Path], list[Skipped]]:
    """Audio files of files, folders and addresses, in order, each once.

    What is not there or holds no audio is a problem. `-` is standard input and stays as it is.
    """
    from whisperstill.audio.files import AUDIO_SUFFIXES

    found: dict[Path, Path] = {}
    problems: list[Skipped] = []
    for source in sources:
        path = Path(source).expanduser()
        try:
            if source == str(STANDARD_INPUT):
                found.setdefault(STANDARD_INPUT, STANDARD_INPUT)
            elif is_remote(source):
                inside = listed(source) if is_folder(source) else [place_of(source)]
                for file in inside:
                    if inside == [place_of(source)] or file.suffix.lower() in AUDIO_SUFFIXES:
                        try:
                            found.setdefault(file, fetched(file))
                        except NotFoundError as error:  # the others may be had
                            problems.append(Skipped(address_of(file) or source, str(error)))
            elif path.is_dir():
                files = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
                inside = sorted(file for file in files if file.is_file())
                if not inside:
                    problems.append(Skipped(source, f"expected audio files in {source}, found none"))
                for file in inside:
                    found.setdefault(file.resolve(), file)
            elif path.is_file():
                found.setdefault(path.resolve(), path)
            elif path.exists():
                problems.append(Skipped(source, f"{source} is no regular file: write - and send it to standard input"))
            else:
                problems.append(Skipped(source, f"expected an audio file or a folder at {source}, found nothing"))
        except NotFoundError as error:
            problems.append(Skipped(source, str(error)))
        except OSError as error:  # a name that is too long, a folder that may not be read
            problems.append(Skipped(source, f"cannot look for {_shown(path)}: {error.strerror}"))
    for known, path in list(found.items()):
        if _shown(path) != str(path):
            problems.append(Skipped(_shown(path), f"the name of {_shown(path)} is no UTF-8: rename it"))
            del found[known]
    return list(found.values()), problems


def _shown(path: Path) -> str:
    """A path as it can be printed."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def durations(paths: list[Path], problems: list[Skipped]) -> dict[Path, float]:
    """Seconds of every file that can be read; the others are added to the problems. Those of standard input are 0."""
    from whisperstill.audio.files import probe

    seconds: dict[Path, float] = {}
    for path in paths:
        try:
            seconds[path] = 0.0 if path == STANDARD_INPUT else probe(path)
        except (AudioError, OSError) as error:
            problems.append(Skipped(str(path), str(error)))
    return seconds


def output_names(paths: list[Path]) -> dict[Path, str]:
    """A name without ending for the transcripts of each file, no two alike.

    The file's stem, `stdin` for standard input; where several share one, as much of ending and folders as tells them
    apart: `talk.wav` and `talk.mp3`, `monday-talk` and `friday-talk`. Names differ in more than case, for file systems
    that do not know it.
    """
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(_stem(path).casefold(), []).append(path)
    names: dict[Path, str] = {}
    taken = set(groups)
    for stem, group in groups.items():
        if len(group) == 1:
            names[group[0]] = _stem(group[0])
            continue
        for level in count(1):
            tried = [_longer_name(path, number, level) for number, path in enumerate(group)]
            folded = {name.casefold() for name in tried}
            if len(folded) == len(group) and not folded & (taken - {stem}):
                names.update(zip(group, tried, strict=True))
                taken |= folded
                break
    return names


def forget_unfinished(directory: Path, outputs: set[str]) -> None:
    """Remove what a killed process left of these outputs (file names), with one look at the folder."""
    for left_over in directory.glob(".*.part"):
        if left_over.name[1:].removesuffix(".part").rpartition(".")[0] in outputs:
            left_over.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    return STANDARD_NAME if path == STANDARD_INPUT else path.stem


def _longer_name(path: Path, number: int, level: int) -> str:
    """Stem, name, folder and stem, folder and name, two folders ...; numbered where even all folders do not help."""
    depth, with_ending = divmod(level, 2)
    folders = path.resolve().parent.parts[1:]
    name = path.name if with_ending and path != STANDARD_INPUT else _stem(path)
    longer = "-".join([*folders[max(0, len(folders) - depth) :], name])
    return longer if level <= 64 else f"{longer}-{number}-{level}"
