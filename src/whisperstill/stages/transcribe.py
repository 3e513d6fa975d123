"""`transcribe`: audio files of any length to txt, srt, vtt, tsv, json. Options are named as in openai/whisper."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.records import Skipped
from whisperstill.stages.console import Console
from whisperstill.stages.decoding import DecodingSettings
from whisperstill.stages.inputs import STANDARD_INPUT, collect, durations, forget_unfinished, output_names

if TYPE_CHECKING:
    from whisperstill.audio.streams import Pcm
    from whisperstill.decode.options import DecodingOptions
    from whisperstill.decode.speculation import Speculation
    from whisperstill.decode.transcript import Transcript
    from whisperstill.text.lines import LineOptions

Made = TypeVar("Made")

FORMATS = ("txt", "vtt", "srt", "tsv", "json")
"""What `all` writes; the tests hold it against `decode.writers`, which may not be imported before it is needed."""


@dataclass(frozen=True)
class TranscribeSettings(DecodingSettings):
    """Transcribe audio files, and all audio in folders."""

    audio: tuple[str, ...]
    """Audio files, or folders that are searched for them; `-` is standard input."""
    model: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), or a hub id."""
    assistant: str | None = None
    """A smaller checkpoint with the same vocabulary, best a student of the model: it proposes, the model verifies. The
    transcripts are the model's own, in less time."""
    output_dir: Path = Path()
    """Folder for the transcripts."""
    output_format: Literal["txt", "vtt", "srt", "tsv", "json", "all"] = "all"
    """What to write."""
    language: str | None = None
    """Language spoken, as a code (`de`) or a name (`German`); default: detected file by file."""
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
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Type of computation; `auto` takes bf16 where the hardware multiplies it fast; `int8` is for CPUs."""
    true_length: bool = False
    """The encoder computes no more of a window than holds sound: faster for short files, and nearly the same."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to PyTorch."""
    verbose: bool = False
    """Show the text of each file, and what of it was not believed and why."""
    skip_existing: bool = False
    """Leave out files whose transcripts are all there, none older than the file."""
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
    mode: str
    strategy: str
    """What was used; never `auto`."""
    acceptance: float | None
    """Share of the assistant's tokens that the model accepted; None without an assistant."""
    tokens_per_verification: float | None
    """Tokens that each look of the model gave; 1 without an assistant's help; None where nothing was decoded."""
    encoder_share: float
    """Share of the decoding time in the encoder, ..."""
    draft_share: float
    """... in what the assistant proposes, ..."""
    verify_share: float
    """... and in the model's own decoder."""
    suppressed: dict[str, int]
    """How many stretches were not believed, by reason."""
    problems: tuple[Skipped, ...]


def run(settings: TranscribeSettings, console: Console) -> TranscribeReport:
    """Transcribe; a file that cannot be read is listed in `problems`, and the others go on.

    Raises `SettingsError`, `CheckpointError`, `NotFoundError`; `AudioError` when not a single file could be read.
    """
    pcm, lines, options = _check(settings)
    found, problems = collect(settings.audio)
    names = output_names(found)
    todo = [path for path in found if not (settings.skip_existing and _is_there(settings, path, names[path]))]
    existing = len(found) - len(todo)
    if existing:
        console.info(f"{existing} files have their transcripts already")
    if not todo and not existing:
        raise NotFoundError(problems[0].reason if problems else "expected audio files, found none")
    work = _Work(settings, console, names, lines, options, problems)
    if todo:
        _open_folder(settings.output_dir)
        forget_unfinished(settings.output_dir, {name for path in todo for name in _outputs(settings, names[path])})
        work.transcribe(todo, pcm)
    for problem in problems:
        console.warn(f"{problem.source}: {problem.reason}")
    if not work.files and not existing:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AudioError(f"no file could be transcribed: {problems[0].reason}{more}")
    return work.report(existing)


class _Work:
    """Files on their way to transcripts."""

    def __init__(
        self,
        settings: TranscribeSettings,
        console: Console,
        names: dict[Path, str],
        lines: "LineOptions",
        options: "DecodingOptions",
        problems: list[Skipped],
    ) -> None:
        self.settings, self.console, self.names, self.lines, self.options = settings, console, names, lines, options
        self.problems = problems
        self.written: list[str] = []
        self.files, self.audio, self.heard, self.took = 0, 0.0, 0.0, 0.0
        self.suppressed: Counter[str] = Counter()
        self.spent: Speculation | None = None

    def transcribe(self, todo: list[Path], pcm: "Pcm | None") -> None:
        """All of these."""
        import time

        import torch

        from whisperstill.audio.streams import stream_stdin
        from whisperstill.decode.longform import Recording, transcribe_recordings
        from whisperstill.decode.transcriber import load

        settings = self.settings
        seconds = durations(todo, self.problems)
        if not seconds:
            return
        if settings.threads:
            torch.set_num_threads(settings.threads)
        model = load(settings.model, settings.device, settings.dtype, settings.assistant, settings.true_length)
        recordings = (
            Recording(
                str(path), language=settings.language, blocks=stream_stdin(pcm) if path == STANDARD_INPUT else None
            )
            for path in seconds
        )
        begun, done = time.monotonic(), 0.0
        with self.console.progress("transcribing", sum(seconds.values()) / 3600, "h") as bar:
            for recording, result in transcribe_recordings(
                model.recogniser,
                recordings,
                self.options,
                lambda heard: bar.advance(self._more(heard) / 3600),
                in_order=False,
            ):
                path = Path(recording.path)
                done += seconds[path]
                bar.advance(self._more(max(0.0, done - self.heard)) / 3600, file=path.name)
                if isinstance(result, AudioError):
                    self.problems.append(Skipped(str(path), str(result)))
                else:
                    if result.broken:
                        self.problems.append(
                            Skipped(str(path), f"heard no further than {result.duration:.1f} s: {result.broken}")
                        )
                    self.keep(path, result)
        self.took, self.spent = time.monotonic() - begun, model.recogniser.speculation

    def _more(self, heard: float) -> float:
        """So many more seconds of audio are done: a window, or what of a finished file was no part of any."""
        self.heard += heard
        return heard

    def keep(self, path: Path, transcript: "Transcript") -> None:
        """Write a transcript."""
        from whisperstill.decode.writers import write_transcript

        settings = self.settings
        if settings.verbose:
            for segment in transcript.segments:
                self.console.info(f"[{segment.start:.2f} --> {segment.end:.2f}]{segment.text}")
            for gone in transcript.suppressed:
                said = f": {gone.text}" if gone.text else ""
                self.console.info(f"[{gone.start:.2f} --> {gone.end:.2f}] not believed ({gone.reason}){said}")
        name = self.names[path]
        try:
            made = write_transcript(transcript, settings.output_dir, name, settings.output_format, self.lines)
        except OSError as error:  # one name that the file system refuses is no reason to lose the others
            self.problems.append(Skipped(str(path), f"its transcript cannot be written: {error}"))
            return
        self.written += map(str, made)
        self.files, self.audio = self.files + 1, self.audio + transcript.duration
        self.suppressed.update(gone.reason for gone in transcript.suppressed)

    def report(self, existing: int) -> TranscribeReport:
        """What was done, which is told as well."""
        from whisperstill.decode.longform import strategy_of
        from whisperstill.decode.speculation import Speculation

        spent = self.spent or Speculation()
        report = TranscribeReport(
            written=tuple(self.written),
            files=self.files,
            existing=existing,
            hours=self.audio / 3600,
            seconds=self.took,
            speed=self.audio / self.took if self.took else 0.0,
            mode=self.options.mode,
            strategy=strategy_of(self.options),
            acceptance=spent.acceptance if self.settings.assistant and spent.proposed else None,
            tokens_per_verification=spent.tokens_per_verification if spent.verifications else None,
            encoder_share=spent.share("encoder"),
            draft_share=spent.share("draft"),
            verify_share=spent.share("verify"),
            suppressed=dict(self.suppressed),
            problems=tuple(self.problems),
        )
        for line in _told(report, self.settings) if self.files else ():
            self.console.info(line)
        return report


def _told(report: TranscribeReport, settings: TranscribeSettings) -> list[str]:
    """The report in a few lines."""
    lines = [
        f"transcribed {report.files} files, {report.hours:.2f} h, {report.speed:.1f}x real time ({report.strategy}, "
        f"{report.mode}); {len(report.written)} files written to {settings.output_dir}"
    ]
    shares = {"encoder": report.encoder_share, "draft": report.draft_share, "decoder": report.verify_share}
    parts = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005]
    if parts:
        lines.append(f"time: {', '.join(parts)}")
    if report.acceptance is not None and report.tokens_per_verification is not None:
        lines.append(
            f"{100 * report.acceptance:.0f} % of the assistant's tokens accepted, "
            f"{report.tokens_per_verification:.1f} tokens per verification"
        )
    if report.suppressed:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(report.suppressed.items()))
        lines.append(f"not believed: {counts} (--verbose lists them)")
    return lines


def _open_folder(folder: Path) -> None:
    """Make the folder for transcripts. Raises `SettingsError` where nothing can be written into it."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(f"output_dir: cannot write into {folder}: {error.strerror}") from error


def _is_there(settings: TranscribeSettings, path: Path, name: str) -> bool:
    since = path.stat().st_mtime if path.is_file() else 0.0
    places = [settings.output_dir / output for output in _outputs(settings, name)]
    # A pipe may hold something else every time.
    return path != STANDARD_INPUT and all(one.is_file() and one.stat().st_mtime >= since for one in places)


def _outputs(settings: TranscribeSettings, name: str) -> list[str]:
    """File names of the transcripts of one recording."""
    formats = FORMATS if settings.output_format == "all" else (settings.output_format,)
    return [f"{name}.{ending}" for ending in formats]


def _check(settings: TranscribeSettings) -> "tuple[Pcm | None, LineOptions, DecodingOptions]":
    """What standard input holds, the lines of subtitles, how to decode. Raises `SettingsError` with all problems."""
    from whisperstill.text.languages import language_code

    problems: list[str] = []
    pcm, lines = _tried(lambda: _pcm(settings), problems), _tried(lambda: _lines(settings), problems)
    options = _tried(settings.options, problems)
    if not settings.audio:
        problems.append("audio must name at least one file or folder")
    if settings.threads < 0:
        problems.append(f"threads must be at least 0, got {settings.threads}")
    if settings.output_dir.exists() and not settings.output_dir.is_dir():
        problems.append(f"output_dir must be a folder, but {settings.output_dir} is a file")
    language = settings.language
    _tried(lambda: None if language is None else language_code(language), problems, "language: ")
    if problems or lines is None or options is None:
        raise SettingsError("; ".join(problems))
    return pcm, lines, options


def _tried(make: Callable[[], Made], problems: list[str], name: str = "") -> Made | None:
    """What is made; None where that is not possible, which is then one more problem."""
    try:
        return make()
    except SettingsError as error:
        problems.append(f"{name}{error}")
        return None


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
