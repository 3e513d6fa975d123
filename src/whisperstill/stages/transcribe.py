"""`transcribe`: audio files of any length to txt, srt, vtt, tsv, json. Options are named as in openai/whisper."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.audio.input_files import STDIN_PATH, collect_audio, read_durations
from whisperstill.audio.streams import PcmFormat, stream_stdin
from whisperstill.console import SILENT, Console, Progress
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.options import DecodingOptions, DecodingSettings, collect_error
from whisperstill.decode.output.transcript import Transcript
from whisperstill.decode.output.writers import OutputFormat, TranscriptFiles
from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.records import Skipped
from whisperstill.text.languages import language_code
from whisperstill.text.line_wrapping import LineOptions


@dataclass(frozen=True)
class TranscribeSettings(DecodingSettings):
    """Transcribe audio files, and all audio files in folders."""

    audio: tuple[str, ...]
    """Audio files, folders to search for them, or URLs; `-` is standard input."""
    model: str
    """Checkpoint: a directory, an installed weights package (`tiny.en`), or a hub id."""
    assistant: str | None = None
    """Draft model for speculative decoding: a smaller checkpoint with the same vocabulary, best a student of the model.
    The transcripts are the model's own, up to rounding (see `deterministic`)."""
    output_dir: Path = Path()
    """Folder for the transcripts."""
    output_format: Literal[OutputFormat, "all"] = "all"
    """Format of the transcripts."""
    language: str | None = None
    """Spoken language, as a code (`de`) or a name (`German`). Default: detected for each file."""
    max_line_width: int | None = None
    """Characters per line of srt and vtt."""
    max_line_count: int | None = None
    """Lines per cue of srt and vtt; a cue may span segments. Needs --max_line_width and --word_timestamps."""
    max_words_per_line: int | None = None
    """Words per cue of srt and vtt; needs --word_timestamps, excludes --max_line_width."""
    highlight_words: bool = False
    """Underline each word of srt and vtt while it is spoken; needs --word_timestamps."""
    pcm: Literal["s16le", "f32le"] | None = None
    """Format of raw samples on standard input: 16-bit integers or floats, little-endian. Default: a container file such
    as wav."""
    pcm_rate: int = 16_000
    """Sample rate of raw samples in Hz."""
    pcm_channels: int = 1
    """Channels of raw samples, interleaved."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Data type of the computation; `auto`: bfloat16 on hardware with fast bfloat16, else float32; `int8`: CPU only."""
    trim_padding: bool = False
    """Encode windows without their silent padding: faster for short files, with nearly the same encoder states."""
    threads: int = 0
    """CPU threads; 0: PyTorch's default."""
    verbose: bool = False
    """Print the text of each file, and what the hallucination filter removed and why."""
    skip_existing: bool = False
    """Skip files whose transcripts all exist and are no older than the file."""
    strict: bool = False
    """Exit with status 1 if a file could not be transcribed; by default it is listed, and the status is 0."""


@dataclass(frozen=True)
class TranscribeReport:
    """Result of a run."""

    written: tuple[str, ...]
    """Transcript files written."""
    files: int
    """Audio files transcribed."""
    existing: int
    """Audio files skipped because their transcripts exist."""
    hours: float
    """Hours of audio transcribed."""
    seconds: float
    """Wall-clock time without loading the model."""
    speed: float
    """Seconds of audio per second of computing (inverse real-time factor)."""
    deterministic: bool
    long_form: str
    """Long-form strategy used; never `auto`."""
    acceptance_rate: float | None
    """Fraction of draft tokens accepted; None without an assistant."""
    tokens_per_verification: float | None
    """Tokens per verification by the model; 1 without an assistant; None if nothing was decoded."""
    encoder_share: float
    """Fraction of the decoding time in the encoder."""
    draft_share: float
    """Fraction of the decoding time in the draft model."""
    verify_share: float
    """Fraction of the decoding time in the decoder."""
    filtered_by_reason: dict[str, int]
    """Number of segments the hallucination filter removed, by reason."""
    problems: tuple[Skipped, ...]


def run(settings: TranscribeSettings, console: Console = SILENT) -> TranscribeReport:
    """Transcribe; a file that cannot be read is listed in `problems`, and the others go on.

    Raises `SettingsError`, `CheckpointError`, `NotFoundError`; `AudioError` if no file could be read.
    """
    # 1. Check all settings, find the files, leave out those with transcripts.
    pcm, lines, options = _check(settings)
    paths, problems = collect_audio(settings.audio)
    outputs = TranscriptFiles(settings.output_dir, settings.output_format, lines, paths)
    pending = [path for path in paths if not (settings.skip_existing and outputs.exist(path))]
    num_existing = len(paths) - len(pending)
    if num_existing:
        console.info(f"{num_existing} files already have transcripts")
    if not pending and not num_existing:
        raise NotFoundError(problems[0].reason if problems else "expected audio files, got none")
    # 2. Transcribe the others.
    job = _TranscriptionJob(settings, options, outputs, console)
    if pending:
        outputs.prepare(pending)
        durations, unreadable = read_durations(pending)
        problems += unreadable
        if durations:
            problems += job.run(durations, pcm)
    # 3. Report.
    for problem in problems:
        console.warn(f"{problem.source}: {problem.reason}")
    if not job.num_files and not num_existing:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AudioError(f"no file could be transcribed: {problems[0].reason}{more}")
    report = job.report(num_existing, problems)
    for line in _report_lines(report, settings) if report.files else ():
        console.info(line)
    return report


class _TranscriptionJob:
    """Transcribes files, writes their transcripts, and sums up for the report."""

    def __init__(
        self, settings: TranscribeSettings, options: DecodingOptions, outputs: TranscriptFiles, console: Console
    ) -> None:
        self._settings, self._options, self._outputs, self._console = settings, options, outputs, console
        self.num_files, self._audio_seconds, self._elapsed_seconds = 0, 0.0, 0.0
        self._written, self._filtered_by_reason = list[str](), Counter[str]()
        self._stats = SpeculativeStats()

    def run(self, durations: dict[Path, float], pcm: PcmFormat | None) -> list[Skipped]:
        """Transcribe these files, given with their seconds; returns what could not be read or written."""
        import torch

        from whisperstill.decode.longform.recordings import Recording, TranscriptionSession
        from whisperstill.decode.transcriber import load

        settings, problems = self._settings, list[Skipped]()
        if settings.threads:
            torch.set_num_threads(settings.threads)
        model = load(settings.model, settings.device, settings.dtype, settings.assistant, settings.trim_padding).model
        recordings = (
            Recording(str(path), language=settings.language, blocks=stream_stdin(pcm) if path == STDIN_PATH else None)
            for path in durations
        )
        start_time = time.monotonic()
        with self._console.progress("transcribing", sum(durations.values()) / 3600, "h") as bar:
            hours_bar = _HoursBar(bar)
            session = TranscriptionSession(model, self._options)
            for recording, result in session.transcribe(recordings, hours_bar.on_decoded, in_order=False):
                path = Path(recording.path)
                hours_bar.on_finished(path, durations[path])
                if isinstance(result, AudioError):
                    problems.append(Skipped(str(path), str(result)))
                    continue
                if result.read_error:
                    reason = f"transcribed only up to {result.duration:.1f} s: {result.read_error}"
                    problems.append(Skipped(str(path), reason))
                problems += self._save(path, result)
        self._elapsed_seconds, self._stats = time.monotonic() - start_time, session.speculative_stats
        return problems

    def _save(self, path: Path, transcript: Transcript) -> list[Skipped]:
        """Show and write a transcript; returns a problem if the file system refuses its name."""
        if self._settings.verbose:
            for segment in transcript.segments:
                self._console.info(f"[{segment.start:.2f} --> {segment.end:.2f}]{segment.text}")
            for filtered in transcript.filtered_segments:
                times = f"[{filtered.start:.2f} --> {filtered.end:.2f}]"
                text = f": {filtered.text}" if filtered.text else ""
                self._console.info(f"{times} removed by the hallucination filter ({filtered.reason}){text}")
        try:
            self._written += map(str, self._outputs.write(path, transcript))
        except OSError as error:
            return [Skipped(str(path), f"cannot write its transcript: {error}")]
        self.num_files, self._audio_seconds = self.num_files + 1, self._audio_seconds + transcript.duration
        self._filtered_by_reason.update(filtered.reason for filtered in transcript.filtered_segments)
        return []

    def report(self, num_existing: int, problems: list[Skipped]) -> TranscribeReport:
        """The report of the files transcribed so far."""
        stats = self._stats
        return TranscribeReport(
            written=tuple(self._written),
            files=self.num_files,
            existing=num_existing,
            hours=self._audio_seconds / 3600,
            seconds=self._elapsed_seconds,
            speed=self._audio_seconds / self._elapsed_seconds if self._elapsed_seconds else 0.0,
            deterministic=self._options.deterministic,
            long_form=self._options.long_form_strategy,
            acceptance_rate=stats.acceptance_rate if self._settings.assistant and stats.proposed else None,
            tokens_per_verification=stats.tokens_per_verification if stats.verifications else None,
            encoder_share=stats.time_share("encoder"),
            draft_share=stats.time_share("draft"),
            verify_share=stats.time_share("verify"),
            filtered_by_reason=dict(self._filtered_by_reason),
            problems=tuple(problems),
        )


class _HoursBar:
    """Progress bar in hours of audio: advances with each window, and at the end of a file by what was not decoded."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._shown_seconds, self._finished_seconds = bar, 0.0, 0.0

    def on_decoded(self, seconds: float, **fields: str) -> None:
        self._shown_seconds += seconds
        self._bar.advance(seconds / 3600, **fields)

    def on_finished(self, path: Path, seconds: float) -> None:
        self._finished_seconds += seconds
        self.on_decoded(max(0.0, self._finished_seconds - self._shown_seconds), file=path.name)


def _report_lines(report: TranscribeReport, settings: TranscribeSettings) -> list[str]:
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


def _check(settings: TranscribeSettings) -> tuple[PcmFormat | None, LineOptions, DecodingOptions]:
    """Format of standard input, subtitle lines, decoding options. Raises `SettingsError` that lists all problems."""
    problems: list[str] = []
    with collect_error(problems):
        pcm = _pcm_format(settings)
    with collect_error(problems):
        lines = LineOptions(
            settings.max_line_width, settings.max_line_count, settings.max_words_per_line, settings.highlight_words
        )
        if settings.output_format in ("srt", "vtt", "all"):
            lines.check_word_timestamps(settings.word_timestamps)
    with collect_error(problems):
        options = settings.options()
    if not settings.audio:
        problems.append("audio must name at least one file or folder")
    if settings.threads < 0:
        problems.append(f"threads must be at least 0, got {settings.threads}")
    if settings.output_dir.exists() and not settings.output_dir.is_dir():
        problems.append(f"output_dir must be a folder, got the file {settings.output_dir}")
    with collect_error(problems, "language: "):
        language_code("en" if settings.language is None else settings.language)
    if problems:
        raise SettingsError("; ".join(problems))
    return pcm, lines, options


def _pcm_format(settings: TranscribeSettings) -> PcmFormat | None:
    """Format of raw samples on standard input; None if it holds a container."""
    if settings.pcm is None:
        if (settings.pcm_rate, settings.pcm_channels) != (PcmFormat.sample_rate, PcmFormat.channels):
            raise SettingsError("pcm_rate and pcm_channels describe raw samples: add --pcm s16le or --pcm f32le")
        return None
    if str(STDIN_PATH) not in settings.audio:
        raise SettingsError("pcm describes standard input: give - as audio, as in `... | whisperstill transcribe -`")
    return PcmFormat(settings.pcm, settings.pcm_rate, settings.pcm_channels)
