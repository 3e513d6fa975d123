"""`transcribe`: audio files of any length to txt, srt, vtt, tsv, json. Options are named as in openai/whisper."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.records import Skipped
from whisperstill.stages.console import Console
from whisperstill.stages.decode_settings import DecodingSettings
from whisperstill.stages.input_files import (
    STDIN_PATH,
    collect_audio,
    read_durations,
    remove_partial_outputs,
    unique_output_names,
)

if TYPE_CHECKING:
    from whisperstill.audio.streams import PcmFormat
    from whisperstill.decode.generate.speculative_stats import SpeculativeStats
    from whisperstill.decode.options import DecodingOptions
    from whisperstill.decode.output.transcript import Transcript
    from whisperstill.text.line_wrapping import LineOptions

Built = TypeVar("Built")

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
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Type of computation; `auto` takes bfloat16 where the hardware multiplies it fast; `int8` is for CPUs."""
    trim_padding: bool = False
    """The encoder computes no more of a window than holds sound: faster for short files, and nearly the same."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to PyTorch."""
    verbose: bool = False
    """Show the text of each file, and what the hallucination filter removed and why."""
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
    deterministic: bool
    long_form: str
    """What was used; never `auto`."""
    acceptance_rate: float | None
    """Share of the assistant's tokens that the model accepted; None without an assistant."""
    tokens_per_verification: float | None
    """Tokens that each look of the model gave; 1 without an assistant's help; None where nothing was decoded."""
    encoder_share: float
    """Share of the decoding time in the encoder, ..."""
    draft_share: float
    """... in what the assistant proposes, ..."""
    verify_share: float
    """... and in the model's own decoder."""
    filtered_by_reason: dict[str, int]
    """How many stretches the hallucination filter removed, by reason."""
    problems: tuple[Skipped, ...]


def run(settings: TranscribeSettings, console: Console) -> TranscribeReport:
    """Transcribe; a file that cannot be read is listed in `problems`, and the others go on.

    Raises `SettingsError`, `CheckpointError`, `NotFoundError`; `AudioError` when not a single file could be read.
    """
    pcm, lines, options = _check(settings)
    paths, problems = collect_audio(settings.audio)
    names = unique_output_names(paths)
    pending = [path for path in paths if not (settings.skip_existing and _has_transcripts(settings, path, names[path]))]
    num_existing = len(paths) - len(pending)
    if num_existing:
        console.info(f"{num_existing} files have their transcripts already")
    if not pending and not num_existing:
        raise NotFoundError(problems[0].reason if problems else "expected audio files, found none")
    job = _TranscriptionJob(settings, console, names, lines, options, problems)
    if pending:
        _make_output_dir(settings.output_dir)
        remove_partial_outputs(
            settings.output_dir, {name for path in pending for name in _output_file_names(settings, names[path])}
        )
        job.transcribe(pending, pcm)
    for problem in problems:
        console.warn(f"{problem.source}: {problem.reason}")
    if not job.files and not num_existing:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AudioError(f"no file could be transcribed: {problems[0].reason}{more}")
    return job.build_report(num_existing)


class _TranscriptionJob:
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
        self.files, self.audio_seconds, self.decoded_seconds, self.elapsed_seconds = 0, 0.0, 0.0, 0.0
        self.filtered_by_reason: Counter[str] = Counter()
        self.speculative_stats: SpeculativeStats | None = None

    def transcribe(self, paths: list[Path], pcm: "PcmFormat | None") -> None:
        """All of these."""
        import time

        import torch

        from whisperstill.audio.streams import stream_stdin
        from whisperstill.decode.longform.recordings import Recording, transcribe_recordings
        from whisperstill.decode.transcriber import load

        settings = self.settings
        seconds = read_durations(paths, self.problems)
        if not seconds:
            return
        if settings.threads:
            torch.set_num_threads(settings.threads)
        model = load(settings.model, settings.device, settings.dtype, settings.assistant, settings.trim_padding)
        recordings = (
            Recording(str(path), language=settings.language, blocks=stream_stdin(pcm) if path == STDIN_PATH else None)
            for path in seconds
        )
        start_time, done_seconds = time.monotonic(), 0.0
        with self.console.progress("transcribing", sum(seconds.values()) / 3600, "h") as bar:
            for recording, result in transcribe_recordings(
                model.model,
                recordings,
                self.options,
                lambda newly_decoded: bar.advance(self._count_decoded(newly_decoded) / 3600),
                in_order=False,
            ):
                path = Path(recording.path)
                done_seconds += seconds[path]
                bar.advance(self._count_decoded(max(0.0, done_seconds - self.decoded_seconds)) / 3600, file=path.name)
                if isinstance(result, AudioError):
                    self.problems.append(Skipped(str(path), str(result)))
                else:
                    if result.read_error:
                        self.problems.append(
                            Skipped(str(path), f"heard no further than {result.duration:.1f} s: {result.read_error}")
                        )
                    self.save_transcript(path, result)
        self.elapsed_seconds, self.speculative_stats = time.monotonic() - start_time, model.model.speculative_stats

    def _count_decoded(self, newly_decoded: float) -> float:
        """So many more seconds of audio are done: a window, or what of a finished file was no part of any."""
        self.decoded_seconds += newly_decoded
        return newly_decoded

    def save_transcript(self, path: Path, transcript: "Transcript") -> None:
        """Write a transcript."""
        from whisperstill.decode.output.writers import write_transcript

        settings = self.settings
        if settings.verbose:
            for segment in transcript.segments:
                self.console.info(f"[{segment.start:.2f} --> {segment.end:.2f}]{segment.text}")
            for filtered in transcript.filtered_segments:
                text = f": {filtered.text}" if filtered.text else ""
                self.console.info(
                    f"[{filtered.start:.2f} --> {filtered.end:.2f}] "
                    f"removed by the hallucination filter ({filtered.reason}){text}"
                )
        name = self.names[path]
        try:
            written_files = write_transcript(transcript, settings.output_dir, name, settings.output_format, self.lines)
        except OSError as error:  # one name that the file system refuses is no reason to lose the others
            self.problems.append(Skipped(str(path), f"its transcript cannot be written: {error}"))
            return
        self.written += map(str, written_files)
        self.files, self.audio_seconds = self.files + 1, self.audio_seconds + transcript.duration
        self.filtered_by_reason.update(filtered.reason for filtered in transcript.filtered_segments)

    def build_report(self, existing: int) -> TranscribeReport:
        """What was done, which is told as well."""
        from whisperstill.decode.generate.speculative_stats import SpeculativeStats
        from whisperstill.decode.longform.recordings import resolve_long_form

        stats = self.speculative_stats or SpeculativeStats()
        report = TranscribeReport(
            written=tuple(self.written),
            files=self.files,
            existing=existing,
            hours=self.audio_seconds / 3600,
            seconds=self.elapsed_seconds,
            speed=self.audio_seconds / self.elapsed_seconds if self.elapsed_seconds else 0.0,
            deterministic=self.options.deterministic,
            long_form=resolve_long_form(self.options),
            acceptance_rate=stats.acceptance_rate if self.settings.assistant and stats.proposed else None,
            tokens_per_verification=stats.tokens_per_verification if stats.verifications else None,
            encoder_share=stats.time_share("encoder"),
            draft_share=stats.time_share("draft"),
            verify_share=stats.time_share("verify"),
            filtered_by_reason=dict(self.filtered_by_reason),
            problems=tuple(self.problems),
        )
        for line in _report_lines(report, self.settings) if self.files else ():
            self.console.info(line)
        return report


def _report_lines(report: TranscribeReport, settings: TranscribeSettings) -> list[str]:
    """The report in a few lines."""
    lines = [
        f"transcribed {report.files} files, {report.hours:.2f} h, {report.speed:.1f}x real time ({report.long_form}"
        f"{', deterministic' if report.deterministic else ''}); "
        f"{len(report.written)} files written to {settings.output_dir}"
    ]
    shares = {"encoder": report.encoder_share, "draft": report.draft_share, "decoder": report.verify_share}
    parts = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005]
    if parts:
        lines.append(f"time: {', '.join(parts)}")
    if report.acceptance_rate is not None and report.tokens_per_verification is not None:
        lines.append(
            f"{100 * report.acceptance_rate:.0f} % of the assistant's tokens accepted, "
            f"{report.tokens_per_verification:.1f} tokens per verification"
        )
    if report.filtered_by_reason:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(report.filtered_by_reason.items()))
        lines.append(f"removed by the hallucination filter: {counts} (--verbose lists them)")
    return lines


def _make_output_dir(folder: Path) -> None:
    """Make the folder for transcripts. Raises `SettingsError` where nothing can be written into it."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(f"output_dir: cannot write into {folder}: {error.strerror}") from error


def _has_transcripts(settings: TranscribeSettings, path: Path, name: str) -> bool:
    modified = path.stat().st_mtime if path.is_file() else 0.0
    output_paths = [settings.output_dir / output for output in _output_file_names(settings, name)]
    # A pipe may hold something else every time.
    return path != STDIN_PATH and all(
        output_path.is_file() and output_path.stat().st_mtime >= modified for output_path in output_paths
    )


def _output_file_names(settings: TranscribeSettings, name: str) -> list[str]:
    """File names of the transcripts of one recording."""
    formats = FORMATS if settings.output_format == "all" else (settings.output_format,)
    return [f"{name}.{extension}" for extension in formats]


def _check(settings: TranscribeSettings) -> "tuple[PcmFormat | None, LineOptions, DecodingOptions]":
    """What standard input holds, the lines of subtitles, how to decode. Raises `SettingsError` with all problems."""
    from whisperstill.text.languages import language_code

    problems: list[str] = []
    pcm, lines = (
        _build_or_record(lambda: _pcm_format(settings), problems),
        _build_or_record(lambda: _line_options(settings), problems),
    )
    options = _build_or_record(settings.options, problems)
    if not settings.audio:
        problems.append("audio must name at least one file or folder")
    if settings.threads < 0:
        problems.append(f"threads must be at least 0, got {settings.threads}")
    if settings.output_dir.exists() and not settings.output_dir.is_dir():
        problems.append(f"output_dir must be a folder, but {settings.output_dir} is a file")
    language = settings.language
    _build_or_record(lambda: None if language is None else language_code(language), problems, "language: ")
    if problems or lines is None or options is None:
        raise SettingsError("; ".join(problems))
    return pcm, lines, options


def _build_or_record(build: Callable[[], Built], problems: list[str], name: str = "") -> Built | None:
    """What is made; None where that is not possible, which is then one more problem."""
    try:
        return build()
    except SettingsError as error:
        problems.append(f"{name}{error}")
        return None


def _pcm_format(settings: TranscribeSettings) -> "PcmFormat | None":
    """What raw samples on standard input are; None where it holds a container."""
    from whisperstill.audio.streams import PcmFormat

    has_pcm_options = (settings.pcm_rate, settings.pcm_channels) != (PcmFormat.sample_rate, PcmFormat.channels)
    if settings.pcm is None:
        if has_pcm_options:
            raise SettingsError("pcm_rate and pcm_channels describe raw samples: add --pcm s16le or --pcm f32le")
        return None
    if str(STDIN_PATH) not in settings.audio:
        raise SettingsError("pcm describes standard input: give - as audio, as in `... | whisperstill transcribe -`")
    return PcmFormat(settings.pcm, settings.pcm_rate, settings.pcm_channels)


def _line_options(settings: TranscribeSettings) -> "LineOptions":
    from whisperstill.text.line_wrapping import LineOptions

    lines = LineOptions(
        settings.max_line_width, settings.max_line_count, settings.max_words_per_line, settings.highlight_words
    )
    if settings.output_format in ("srt", "vtt", "all"):
        lines.check_word_timestamps(settings.word_timestamps)
    return lines
