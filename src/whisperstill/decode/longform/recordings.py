"""Recordings of any length, many at a time.

Each recording has a plan (`decode.plans`) that says which windows are to be heard; the windows of all recordings share
the slots of one engine. Audio is read as it is needed and forgotten again: what is held in memory is a few windows and
the text so far, however long the recordings are. The strategies:

    silence     cut at the quietest places, between half a window and a whole one; what a window leaves is heard again
    vad         what holds no speech is left out, the rest cut in pauses
    chunked     overlapping chunks joined by their words (`decode.chunked`)
    sequential  openai/whisper's way: each window begins where the one before ended (`decode.sequential`)

The language of a recording that nobody named is that of its first window, as in openai/whisper. `stream_recording`
gives the segments of one recording as they become final.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import stream_audio
from whisperstill.audio.reader import AudioReader
from whisperstill.audio.sound_activity import cut_reader
from whisperstill.audio.speech_windows import stream_speech_windows
from whisperstill.decode.longform.chunked import Chunked
from whisperstill.decode.longform.sequential import Sequential
from whisperstill.decode.longform.strategy import LongFormContext, LongFormStrategy, NonOverlapping
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage
from whisperstill.decode.longform.window_decoder import WindowDecoder
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import Segment, Transcript
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError
from whisperstill.units import WINDOW_SECONDS

TranscriptOrError: TypeAlias = Transcript | AudioError
STUDENT_CHUNK_S = 15.0
"""Seconds: the best chunk for a student that was trained on short audio (paper, table 17)."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, a stretch of it, or a stream, to be transcribed."""

    path: str
    """Of a stream, what it is to be called."""
    start: float = 0.0
    """Seconds of a file."""
    duration: float | None = None
    """Seconds of a file; None: to the end."""
    language: str | None = None
    """ISO 639-1 code; None: detect it."""
    blocks: Iterator[Float32[np.ndarray, "_"]] | None = None
    """16 kHz mono audio that comes once, in place of a file (see `audio.streams`)."""


def transcribe_recordings(
    model: WhisperModel,
    recordings: Iterable[Recording],
    options: DecodingOptions | None = None,
    on_progress: Callable[[float], None] | None = None,
    in_order: bool = True,
) -> Iterator[tuple[Recording, Transcript | AudioError]]:
    """Transcripts in the order of the recordings, or each as soon as it is finished.

    A recording that cannot be read gives its `AudioError` in place of a transcript; the others go on. One that breaks
    off gives the transcript of what there is of it (`Transcript.broken`). `advance` is
    told the seconds of audio of every window that is done. Times in a transcript count from the recording's `start`.
    What was decoded is added to `recogniser.speculation`. Raises `SettingsError` for a language or task that the
    network does not know.
    """
    session = _TranscriptionSession(model, options or DecodingOptions(), on_progress or (lambda seconds: None))
    try:
        yield from session.results(iter(recordings), in_order)
    finally:
        model.speculative_stats += session.window_decoder.speculative_stats


def stream_recording(
    model: WhisperModel, recording: Recording, options: DecodingOptions | None = None
) -> tuple[Iterator[Segment], LongFormStrategy]:
    """The segments of one recording, each as soon as nothing can come before it, and the plan that knows the rest.

    Ids ascend; all segments together are those of the transcript. Up to `batch_size` windows are read before the first
    is heard. Raises `AudioError` when nothing can be read, `SettingsError` as `transcribe_recordings`; where the
    recording breaks off, an `AudioError` is raised behind the segments.
    """
    session = _TranscriptionSession(model, options or DecodingOptions(), lambda seconds: None)
    strategy = make_strategy(session.context, recording)
    session.in_progress.append((recording, strategy))

    def segments() -> Iterator[Segment]:
        try:
            yield from session.segments(strategy)
        finally:
            model.speculative_stats += session.window_decoder.speculative_stats

    return segments(), strategy


def resolve_long_form(options: DecodingOptions) -> str:
    """What `auto` stands for."""
    return "silence" if options.long_form == "auto" else options.long_form


def should_decode_timestamps(model: WhisperModel, options: DecodingOptions) -> bool:
    """Whether timestamps are decoded, as they are unless the network never saw any.

    Without them Whisper's own checkpoints may end after a sentence or two of a window, and nobody can tell where.
    """
    if options.without_timestamps is None:
        return not model.trained_without_timestamps
    return not options.without_timestamps


class _TranscriptionSession:
    """Recordings on their way."""

    def __init__(self, model: WhisperModel, options: DecodingOptions, on_progress: Callable[[float], None]) -> None:
        self.context = LongFormContext(model, options, should_decode_timestamps(model, options))
        self.window_decoder = WindowDecoder(model, options, self.context.timestamps)
        self.on_progress = on_progress
        self.in_progress: deque[tuple[Recording, LongFormStrategy | TranscriptOrError]] = deque()
        """In order."""

    def results(self, recordings: Iterator[Recording], in_order: bool) -> Iterator[tuple[Recording, TranscriptOrError]]:
        """See `transcribe_recordings`."""
        while True:
            self._step(recordings)
            yield from self._pop_finished(in_order)
            if self.window_decoder.idle and not self.in_progress:
                recording = next(recordings, None)
                if recording is None:
                    return
                self._start_recording(recording)

    def _pop_finished(self, in_order: bool) -> Iterator[tuple[Recording, TranscriptOrError]]:
        """What can be given now. What is finished gives its audio back, even where it waits for those before it."""
        unfinished: deque[tuple[Recording, LongFormStrategy | TranscriptOrError]] = deque()
        for recording, strategy_or_result in self.in_progress:
            result = (
                strategy_or_result.build_transcript()
                if isinstance(strategy_or_result, LongFormStrategy) and strategy_or_result.finished
                else strategy_or_result
            )
            if isinstance(result, LongFormStrategy) or (in_order and unfinished):
                unfinished.append((recording, result))
            else:
                yield recording, result
        self.in_progress = unfinished

    def segments(self, strategy: LongFormStrategy) -> Iterator[Segment]:
        """Those of the only recording, see `stream_recording`."""
        while True:
            self._step(iter(()))
            yield from strategy.pop_final_segments()
            if strategy.finished:
                if strategy.reader.read_error:
                    raise strategy.reader.read_error
                return

    def _step(self, recordings: Iterator[Recording]) -> None:
        """Fill the slots and decode a block of each."""
        while self.window_decoder.num_windows_wanted and (window := self._next_window(recordings)) is not None:
            self.window_decoder.submit(window)
        if self.window_decoder.idle:
            return
        for result in self.window_decoder.step():
            strategy = result.window.owner
            assert isinstance(strategy, LongFormStrategy)
            strategy.on_result(result)
            end = result.window.start + result.window.duration
            self.on_progress(max(0.0, end - strategy.progress_seconds))
            strategy.progress_seconds = max(strategy.progress_seconds, end)

    def _next_window(self, recordings: Iterator[Recording]) -> AudioWindow | None:
        """A window of the first recording that has one; recordings are begun as they are needed."""
        for _, strategy in list(self.in_progress):
            if isinstance(strategy, LongFormStrategy) and (window := strategy.next_window()) is not None:
                return window
        while (recording := next(recordings, None)) is not None:
            strategy = self._start_recording(recording)
            if isinstance(strategy, LongFormStrategy) and (window := strategy.next_window()) is not None:
                return window
        return None

    def _start_recording(self, recording: Recording) -> LongFormStrategy | AudioError:
        strategy: LongFormStrategy | AudioError
        try:
            strategy = make_strategy(self.context, recording)
        except AudioError as error:
            strategy = error
        self.in_progress.append((recording, strategy))
        return strategy


def make_strategy(context: LongFormContext, recording: Recording) -> LongFormStrategy:
    """The plan of a recording. Raises `AudioError` when it cannot be read, `SettingsError` for its language."""
    options, model = context.options, context.model
    detected_language = DetectedLanguage(model.resolve_language(recording.language))
    long_form, window_seconds = resolve_long_form(options), options.chunk_length
    blocks = recording.blocks
    if blocks is None:
        blocks = stream_audio(recording.path, recording.start, recording.duration)
    reader = AudioReader(blocks)
    if not reader.has_audio_after(0.0):
        raise AudioError(f"expected sound in {'the stream' if recording.blocks else recording.path}, found none")
    if long_form == "sequential":
        return Sequential(context, detected_language, reader, window_seconds or WINDOW_SECONDS)
    if long_form == "chunked":
        is_student = "teacher" in model.metadata
        return Chunked(
            context, detected_language, reader, window_seconds or (STUDENT_CHUNK_S if is_student else WINDOW_SECONDS)
        )
    window_seconds = window_seconds or WINDOW_SECONDS
    use_vad = long_form == "vad"
    timed_waveforms = (
        stream_speech_windows(reader.drain(), max_seconds=window_seconds)
        if use_vad
        else cut_reader(reader, window_seconds)
    )
    return NonOverlapping(context, detected_language, reader, timed_waveforms)
