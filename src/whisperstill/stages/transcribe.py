"""`transcribe`: audio files of any length to txt, srt, vtt, tsv, json. Options are named as in openai/whisper."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.records import Skipped
from whisperstill.stages.console import Console

FORMATS = ("txt", "vtt", "srt", "tsv", "json")
"""What `all` writes; the tests hold it against `decode.writers`, which may not be imported before it is needed."""


@dataclass(frozen=True)
class TranscribeSettings:
    """Transcribe audio files, and all audio in folders."""

    audio: tuple[str, ...]
    """Audio files, or folders that are searched for them."""
    model: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), or a hub id."""
    assistant: str | None = None
    """A smaller checkpoint with the same vocabulary, best a student of the model: it proposes, the model verifies. The
    transcripts are the model's own. It pays where the model is many times the assistant's size."""
    output_dir: Path = Path()
    """Folder for the transcripts."""
    output_format: Literal["txt", "vtt", "srt", "tsv", "json", "all"] = "all"
    """What to write."""
    language: str | None = None
    """Language spoken, as a code (`de`) or a name (`German`); default: detected file by file."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """Write what was said, or its English translation (multilingual models)."""
    without_timestamps: bool | None = None
    """Decode no timestamps: one segment per piece of up to 30 s. Default: only for students that never saw any."""
    initial_prompt: str | None = None
    """Text that stands before every window, as if it had been said: names, spelling, style."""
    batch_size: int = 8
    """Windows decoded at a time, over files."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of computation; `auto` takes bf16 where the hardware multiplies it fast."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to PyTorch."""
    verbose: bool = False
    """Show the text while it is transcribed."""
    skip_existing: bool = False
    """Leave out files whose transcripts are all there."""
    strict: bool = False
    """Exit with status 1 if any file could not be transcribed."""


@dataclass(frozen=True)
class TranscribeReport:
    """What was transcribed."""

    written: tuple[str, ...]
    """Files that were written."""
    files: int
    """Audio files transcribed."""
    existing: int
    """Audio files left out because their transcripts were there."""
    hours: float
    seconds: float
    """Time it took, without loading the model."""
    speed: float
    """Hours of audio per hour."""
    acceptance: float | None
    """Share of the assistant's tokens that the model accepted; None without an assistant."""
    tokens_per_verification: float | None
    """Tokens that each look of the model gave; 1 without an assistant's help."""
    problems: tuple[Skipped, ...]


def run(settings: TranscribeSettings, console: Console) -> TranscribeReport:
    """Transcribe; a file that cannot be read is listed in `problems`, and the others go on.

    Raises `SettingsError`, `CheckpointError`, `NotFoundError`; `AudioError` when not a single file could be read.
    """
    _check(settings)
    found, problems = collect(settings.audio)
    names = output_names(found)
    todo = [path for path in found if not (settings.skip_existing and _is_there(settings, names[path]))]
    existing = len(found) - len(todo)
    if existing:
        console.info(f"{existing} files have their transcripts already")
    if not todo and not existing:
        raise NotFoundError(problems[0].reason if problems else "expected audio files, found none")
    if not todo:
        _list(problems, console)
        return TranscribeReport((), 0, existing, 0.0, 0.0, 0.0, None, None, tuple(problems))

    import time

    import torch

    from whisperstill.decode.transcriber import load
    from whisperstill.decode.writers import write_transcript

    readable = _durations(todo, problems)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    written: list[str] = []
    files, seconds, begun = 0, 0.0, 0.0
    helped = None
    if readable:
        transcriber = load(settings.model, settings.device, settings.dtype, settings.assistant)
        begun = time.monotonic()
        results = transcriber.transcribe_many(
            readable,
            language=settings.language,
            task=settings.task,
            without_timestamps=settings.without_timestamps,
            initial_prompt=settings.initial_prompt,
            batch_size=settings.batch_size,
        )
        with console.progress("transcribing", sum(readable.values()) / 3600, "h") as bar:
            for path, result in results:
                bar.advance(readable[path] / 3600, file=path.name)
                if isinstance(result, AudioError):
                    problems.append(Skipped(str(path), str(result)))
                    continue
                if settings.verbose:
                    for segment in result.segments:
                        console.info(f"[{segment.start:.2f} --> {segment.end:.2f}]{segment.text}")
                made = write_transcript(result, settings.output_dir, names[path], settings.output_format)
                written += map(str, made)
                files, seconds = files + 1, seconds + result.duration
        if settings.assistant:
            helped = transcriber.recogniser.speculation
    took = time.monotonic() - begun if readable else 0.0
    _list(problems, console)
    if not files and not existing:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AudioError(f"no file could be transcribed: {problems[0].reason}{more}")
    speed = seconds / took if took else 0.0
    console.info(
        f"transcribed {files} files, {seconds / 3600:.2f} h, {speed:.1f}x real time; {len(written)} files written to "
        f"{settings.output_dir}"
    )
    if helped:
        console.info(
            f"{100 * helped.acceptance:.0f} % of the assistant's tokens accepted, "
            f"{helped.tokens_per_verification:.1f} tokens per verification"
        )
    return TranscribeReport(
        tuple(written),
        files,
        existing,
        seconds / 3600,
        took,
        speed,
        helped.acceptance if helped else None,
        helped.tokens_per_verification if helped else None,
        tuple(problems),
    )


def collect(sources: tuple[str, ...]) -> tuple[list[Path], list[Skipped]]:
    """Audio files of files and folders, in order, each once; what is not there or holds no audio is a problem."""
    from whisperstill.audio.files import AUDIO_SUFFIXES

    found: dict[Path, Path] = {}
    problems: list[Skipped] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            if not inside:
                problems.append(Skipped(source, f"expected audio files in {source}, found none"))
            for file in inside:
                found.setdefault(file.resolve(), file)
        elif path.is_file():
            found.setdefault(path.resolve(), path)
        else:
            problems.append(Skipped(source, f"expected an audio file or a folder at {source}, found nothing"))
    return list(found.values()), problems


def output_names(paths: list[Path]) -> dict[Path, str]:
    """A name without ending for the transcripts of each file, no two alike.

    The file's stem; where several share one, as much of ending and folders as tells them apart: `talk.wav` and
    `talk.mp3`, `monday-talk` and `friday-talk`. Names differ in more than case, for file systems that do not know it.
    """
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.stem.casefold(), []).append(path)
    names: dict[Path, str] = {}
    taken = set(groups)
    for stem, group in groups.items():
        if len(group) == 1:
            names[group[0]] = group[0].stem
            continue
        for level in count(1):
            tried = [_longer_name(path, number, level) for number, path in enumerate(group)]
            folded = {name.casefold() for name in tried}
            if len(folded) == len(group) and not folded & (taken - {stem}):
                names.update(zip(group, tried, strict=True))
                taken |= folded
                break
    return names


def _longer_name(path: Path, number: int, level: int) -> str:
    """Stem, name, folder and stem, folder and name, two folders ...; numbered where even all folders do not help."""
    depth, with_ending = divmod(level, 2)
    folders = path.resolve().parent.parts[1:]
    name = "-".join([*folders[max(0, len(folders) - depth) :], path.name if with_ending else path.stem])
    return name if level <= 64 else f"{name}-{number}-{level}"


def _is_there(settings: TranscribeSettings, name: str) -> bool:
    formats = FORMATS if settings.output_format == "all" else (settings.output_format,)
    return all((settings.output_dir / f"{name}.{ending}").is_file() for ending in formats)


def _durations(paths: list[Path], problems: list[Skipped]) -> dict[Path, float]:
    """Seconds of every file that can be read."""
    from whisperstill.audio.files import probe

    seconds: dict[Path, float] = {}
    for path in paths:
        try:
            seconds[path] = probe(path)
        except AudioError as error:
            problems.append(Skipped(str(path), str(error)))
    return seconds


def _list(problems: list[Skipped], console: Console) -> None:
    for problem in problems:
        console.warn(f"{problem.source} was left out: {problem.reason}")


def _check(settings: TranscribeSettings) -> None:
    from whisperstill.text.languages import language_code

    problems = []
    if not settings.audio:
        problems.append("audio must name at least one file or folder")
    if settings.batch_size < 1:
        problems.append(f"batch_size must be at least 1, got {settings.batch_size}")
    if settings.threads < 0:
        problems.append(f"threads must be at least 0, got {settings.threads}")
    if settings.output_dir.exists() and not settings.output_dir.is_dir():
        problems.append(f"output_dir must be a folder, but {settings.output_dir} is a file")
    if settings.language is not None:
        try:
            language_code(settings.language)
        except SettingsError as error:
            problems.append(f"language: {error}")
    if problems:
        raise SettingsError("; ".join(problems))
