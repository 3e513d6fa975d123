"""`transcribe`: audio files of any length to txt, srt, vtt, tsv, json. Options are named as in openai/whisper."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.records import Skipped
from whisperstill.stages.console import Console
from whisperstill.stages.inputs import STANDARD_INPUT, collect, durations, forget_unfinished, opened, output_names

if TYPE_CHECKING:
    from whisperstill.audio.streams import Pcm
    from whisperstill.text.lines import LineOptions

FORMATS = ("txt", "vtt", "srt", "tsv", "json")
"""What `all` writes; the tests hold it against `decode.writers`, which may not be imported before it is needed."""


@dataclass(frozen=True)
class TranscribeSettings:
    """Transcribe audio files, and all audio in folders."""

    audio: tuple[str, ...]
    """Audio files, or folders that are searched for them; `-` is standard input."""
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
    word_timestamps: bool = False
    """Find when each word was said."""
    max_line_width: int | None = None
    """Characters to a line of srt and vtt."""
    max_line_count: int | None = None
    """Lines to a cue of srt and vtt, across segments; needs --max_line_width and --word_timestamps."""
    max_words_per_line: int | None = None
    """Words to a cue of srt and vtt; needs --word_timestamps, and does not go with --max_line_width."""
    highlight_words: bool = False
    """Underline each word of srt and vtt as it is said; needs --word_timestamps."""
    pcm: Literal["s16le", "f32le"] | None = None
    """Standard input holds raw samples: 16-bit integers or floats, little-endian. Default: a container such as wav."""
    pcm_rate: int = 16_000
    """Raw samples a second, in each channel."""
    pcm_channels: int = 1
    """Channels of the raw samples, interleaved."""
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
    pcm, lines = _check(settings)
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
    forget_unfinished(settings.output_dir, {name for path in todo for name in _outputs(settings, names[path])})
    with opened(todo, pcm, problems) as files:
        return _transcribe(settings, console, files, names, lines, existing, problems)


def _transcribe(
    settings: TranscribeSettings,
    console: Console,
    sources: dict[Path, Path],
    names: dict[Path, str],
    lines: "LineOptions",
    existing: int,
    problems: list[Skipped],
) -> TranscribeReport:
    """Files, each with the input that it stands for, to transcripts."""
    import time

    import torch

    from whisperstill.decode.transcriber import load
    from whisperstill.decode.writers import write_transcript

    readable = durations(sources, problems)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    written: list[str] = []
    files, seconds, begun = 0, 0.0, 0.0
    helped = None
    if readable:
        transcriber = load(settings.model, settings.device, settings.dtype, settings.assistant)
        begun = time.monotonic()
        results = transcriber.transcribe_many(readable, **_decoding(settings))
        with console.progress("transcribing", sum(readable.values()) / 3600, "h") as bar:
            for path, result in results:
                source = sources[path]
                bar.advance(readable[path] / 3600, file=source.name)
                if isinstance(result, AudioError):
                    problems.append(Skipped(str(source), str(result)))
                    continue
                if settings.verbose:
                    for segment in result.segments:
                        console.info(f"[{segment.start:.2f} --> {segment.end:.2f}]{segment.text}")
                try:
                    made = write_transcript(result, settings.output_dir, names[source], settings.output_format, lines)
                except OSError as error:  # one name that the file system refuses is no reason to lose the others
                    problems.append(Skipped(str(source), f"its transcript cannot be written: {error}"))
                    continue
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


def _is_there(settings: TranscribeSettings, name: str) -> bool:
    return all((settings.output_dir / output).is_file() for output in _outputs(settings, name))


def _outputs(settings: TranscribeSettings, name: str) -> list[str]:
    """File names of the transcripts of one recording."""
    formats = FORMATS if settings.output_format == "all" else (settings.output_format,)
    return [f"{name}.{ending}" for ending in formats]


def _decoding(settings: TranscribeSettings) -> dict[str, Any]:
    """The settings that the decoder has to know."""
    options: dict[str, Any] = {
        "language": settings.language,
        "task": settings.task,
        "without_timestamps": settings.without_timestamps,
        "initial_prompt": settings.initial_prompt,
        "batch_size": settings.batch_size,
    }
    return {**options, "word_timestamps": True} if settings.word_timestamps else options


def _list(problems: list[Skipped], console: Console) -> None:
    for problem in problems:
        console.warn(f"{problem.source} was left out: {problem.reason}")


def _check(settings: TranscribeSettings) -> "tuple[Pcm | None, LineOptions]":
    """What standard input holds, and the lines of subtitles. Raises `SettingsError` that lists all problems."""
    from whisperstill.text.languages import language_code

    problems = []
    pcm = lines = None
    try:
        pcm = _pcm(settings)
    except SettingsError as error:
        problems.append(str(error))
    try:
        lines = _lines(settings)
    except SettingsError as error:
        problems.append(str(error))
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
    if problems or lines is None:
        raise SettingsError("; ".join(problems))
    return pcm, lines


def _pcm(settings: TranscribeSettings) -> "Pcm | None":
    """What raw samples on standard input are; None where it holds a container."""
    from whisperstill.audio.streams import Pcm

    described = (settings.pcm_rate, settings.pcm_channels) != (Pcm.rate, Pcm.channels)
    if settings.pcm is None:
        if described:
            raise SettingsError("pcm_rate and pcm_channels describe raw samples: add --pcm s16le or --pcm f32le")
        return None
    if str(STANDARD_INPUT) not in settings.audio:
        raise SettingsError("pcm describes standard input: give - as audio, as in `... | whisperstill transcribe -`")
    return Pcm(settings.pcm, settings.pcm_rate, settings.pcm_channels)


def _lines(settings: TranscribeSettings) -> "LineOptions":
    from whisperstill.text.lines import LineOptions

    lines = LineOptions(
        settings.max_line_width, settings.max_line_count, settings.max_words_per_line, settings.highlight_words
    )
    if settings.output_format in ("srt", "vtt", "all"):
        lines.check_words(settings.word_timestamps)
    return lines
