"""Transcribing many recordings of any length at a time.

Each recording has a strategy that cuts it into windows; the windows of all recordings share the batch of one
`WindowDecoder`. Audio is read when it is needed and discarded afterwards: memory holds a few windows and the text so
far, however long the recordings are. The strategies:

    silence     cut at the quietest places, between half a window and a whole one; rests of windows are decoded again
    vad         audio without speech is left out, the rest is cut in pauses
    chunked     overlapping chunks, merged by their words (`chunked`)
    sequential  openai/whisper's algorithm: each window begins where the previous one ended (`sequential`)

A language that is not given is detected in the first window with speech, as in openai/whisper.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import stream_audio
from whisperstill.audio.reader import AudioReader
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.longform.chunked import Chunked
from whisperstill.decode.longform.non_overlapping import NonOverlapping
from whisperstill.decode.longform.sequential import Sequential
from whisperstill.decode.longform.strategy import LongFormStrategy, decodes_timestamps
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage
from whisperstill.decode.longform.window_decoder import WindowDecoder
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import Segment, Transcript
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError

TranscriptOrError: TypeAlias = Transcript | AudioError
STRATEGIES: dict[str, type[LongFormStrategy]] = {"chunked": Chunked, "sequential": Sequential}
"""All others are `NonOverlapping`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, a stretch of a file, or a stream."""

    path: str
    """Path of a file, name of a stream."""
    start: float = 0.0
    """Seconds of a file."""
    duration: float | None = None
    """Seconds of a file; None: to its end."""
    language: str | None = None
    """Code or English name; None: detect it."""
    blocks: Iterator[Float32[np.ndarray, "_"]] | None = None
    """16 kHz mono audio of a stream (see `audio.streams`); None for a file."""


@dataclass(slots=True)
class _ActiveRecording:
    """A recording between its start and the yield of its result."""

    recording: Recording
    strategy: LongFormStrategy | None
    """None once there is a result."""
    result: TranscriptOrError | None = None
    progress_seconds: float = 0.0
    """End of the latest window decoded."""


class TranscriptionSession:
    """Transcribes recordings with one model and the same options; the windows of all share the batch."""

    def __init__(self, model: WhisperModel, options: DecodingOptions | None = None) -> None:
        """Raises `SettingsError` for a token that the model does not have."""
        self._model, self._options = model, options or DecodingOptions()
        self._active: dict[int, _ActiveRecording] = {}
        """By id, in order of start."""
        self._ids = count()
        self._window_decoder = WindowDecoder(model, self._options, decodes_timestamps(model, self._options))

    @property
    def speculative_stats(self) -> SpeculativeStats:
        """Token counts and times of everything decoded so far."""
        return self._window_decoder.speculative_stats

    def transcribe(
        self,
        recordings: Iterable[Recording],
        on_progress: Callable[[float], None] | None = None,
        in_order: bool = True,
    ) -> Iterator[tuple[Recording, TranscriptOrError]]:
        """Transcripts in the order of the recordings, or with `in_order` False each as soon as it is finished.

        A recording that cannot be read yields its `AudioError`; the others go on. One that breaks off yields the
        transcript of the audio before that (`Transcript.read_error`). `on_progress` is called with the seconds of audio
        of every decoded window. Times count from the recording's `start`. Raises `SettingsError` for a language or task
        the model does not support.
        """
        remaining = iter(recordings)
        while True:
            self._step(remaining, on_progress)
            yield from self._pop_results(in_order)
            if self._window_decoder.idle and not self._active:
                recording = next(remaining, None)
                if recording is None:
                    return
                self._start_or_record_error(recording)

    def stream(self, recording: Recording) -> tuple[Iterator[Segment], LongFormStrategy]:
        """Segments of one recording, each as soon as it is final, and the strategy with language, duration and so on.

        Ids ascend; the segments are those of the transcript. Up to `batch_size` windows are read before the first is
        decoded. Raises `AudioError` if nothing can be read, `SettingsError` as `transcribe`; if the recording breaks
        off, an `AudioError` is raised after the segments.
        """
        strategy = self._start(recording)

        def segments() -> Iterator[Segment]:
            num_yielded = 0
            while not strategy.finished:
                self._step(iter(()))
                yield from strategy.segments[num_yielded:]
                num_yielded = len(strategy.segments)
            if strategy.reader.read_error:
                raise strategy.reader.read_error

        return segments(), strategy

    def _start(self, recording: Recording) -> LongFormStrategy:
        """Begin a recording. Raises `AudioError` if it cannot be read, `SettingsError` for its language."""
        recording_id, language = next(self._ids), self._model.resolve_language(recording.language)
        blocks = recording.blocks
        reader = AudioReader(
            stream_audio(recording.path, recording.start, recording.duration) if blocks is None else blocks
        )
        if not reader.has_audio_after(0.0):
            raise AudioError(f"expected audio in {'the stream' if blocks else recording.path}, got none")
        detected_language = None if language is None else DetectedLanguage(language)
        strategy_class = STRATEGIES.get(self._options.long_form, NonOverlapping)
        strategy = strategy_class(self._model, self._options, recording_id, reader, detected_language)
        self._active[recording_id] = _ActiveRecording(recording, strategy)
        return strategy

    def _step(self, recordings: Iterator[Recording], on_progress: Callable[[float], None] | None = None) -> None:
        """Fill the batch with windows, decode one block, and hand the results to their strategies."""
        while self._window_decoder.num_windows_wanted and (window := self._next_window(recordings)) is not None:
            self._window_decoder.submit(window)
        for result in [] if self._window_decoder.idle else self._window_decoder.step():
            active, end = self._active[result.window.recording_id], result.window.start + result.window.duration
            assert active.strategy is not None
            active.strategy.on_result(result)
            if on_progress is not None:
                on_progress(max(0.0, end - active.progress_seconds))
            active.progress_seconds = max(active.progress_seconds, end)

    def _pop_results(self, in_order: bool) -> Iterator[tuple[Recording, TranscriptOrError]]:
        """Results that can be yielded now. A finished recording frees its audio even if it waits for earlier ones."""
        for active in self._active.values():
            if active.strategy is not None and active.strategy.finished:
                active.result, active.strategy = active.strategy.transcript(), None
        for recording_id, active in list(self._active.items()):
            if active.result is not None:
                del self._active[recording_id]
                yield active.recording, active.result
            elif in_order:
                return

    def _next_window(self, recordings: Iterator[Recording]) -> AudioWindow | None:
        """A window of the first recording that has one; further recordings are started as needed."""
        strategies = [active.strategy for active in self._active.values()]
        for strategy in chain(strategies, map(self._start_or_record_error, recordings)):
            if strategy is not None and (window := strategy.next_window()) is not None:
                return window
        return None

    def _start_or_record_error(self, recording: Recording) -> LongFormStrategy | None:
        try:
            return self._start(recording)
        except AudioError as error:
            self._active[next(self._ids)] = _ActiveRecording(recording, None, error)
            return None
