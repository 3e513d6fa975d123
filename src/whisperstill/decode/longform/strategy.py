"""Long-form strategies: which windows of a recording are decoded, and how their results become its transcript."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.longform.hallucination_filter import HallucinationFilter
from whisperstill.decode.longform.segments import attach_words, split_into_segments
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, SpeechSpans, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import Segment, Transcript, Word, join_segments
from whisperstill.decode.prompts import build_prompt, tokenize_text
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.decode.word_timestamps.align import align_words
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE, WINDOW_SECONDS

STUDENT_CHUNK_S = 15.0
"""Best chunk length for a student trained on short audio (paper, table 17)."""


def decodes_timestamps(model: WhisperModel, options: DecodingOptions) -> bool:
    """Whether timestamps are decoded; by default unless the student was trained without.

    Without timestamps openai's checkpoints may end after a sentence or two, and the rest of the window is lost.
    """
    return not (model.trained_without_timestamps if options.without_timestamps is None else options.without_timestamps)


@dataclass(eq=False)
class LongFormStrategy(ABC):
    """One recording being transcribed: yields windows, receives their results in any order."""

    model: WhisperModel
    options: DecodingOptions
    recording_id: int
    reader: AudioReader
    language: DetectedLanguage | None
    """None: detected in the first window with speech."""

    def __post_init__(self) -> None:
        self.filter = HallucinationFilter(self.options)
        self.timestamps = decodes_timestamps(self.model, self.options)
        self.segments: list[Segment] = []
        """Final segments: no later result comes before them."""
        self._language_window_start = math.inf
        self._windows_end = 0.0
        """Seconds at which the last window ends."""

    @abstractmethod
    def next_window(self) -> AudioWindow | None:
        """The next window to decode; None while the strategy waits for results, and at the end."""

    @abstractmethod
    def on_result(self, result: WindowResult) -> None:
        """Receive the result of a window; segments that became final are added to `segments`."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether all windows were yielded and their results received."""

    @property
    def window_seconds(self) -> float:
        is_student_chunk = self.options.long_form == "chunked" and "teacher" in self.model.metadata
        return self.options.chunk_length or (STUDENT_CHUNK_S if is_student_chunk else WINDOW_SECONDS)

    @property
    def language_code(self) -> str:
        """ISO 639-1; English until the language is known."""
        return self.language.code if self.language else "en"

    def make_window(
        self, start: float, waveform: Float32[np.ndarray, "samples"], previous_tokens: Sequence[int] = ()
    ) -> AudioWindow:
        """The window of this waveform, prompted with hotwords and the previous tokens, else the initial prompt.

        The first window has the forced prefix: at most 111 tokens, to leave room for others.
        """
        options, tokenizer, duration = self.options, self.model.tokenizer, len(waveform) / SAMPLE_RATE
        prefix = None if self._windows_end else options.prefix
        self._windows_end = max(self._windows_end, start + duration)
        return AudioWindow(
            start,
            waveform,
            duration,
            language=None if options.multilingual else self.language,
            prompt=build_prompt(tokenizer, previous_tokens or options.initial_prompt, options.hotwords),
            prefix=tuple(tokenize_text(tokenizer, prefix)[: MAX_PROMPT_TOKENS // 2]),
            recording_id=self.recording_id,
            speech=SpeechSpans.detect(waveform) if options.hallucination_filter else None,
        )

    def update_language(self, result: WindowResult) -> None:
        """Make the language of the earliest window with speech that of the recording and of its next windows."""
        if result.language is not None and result.window.start < self._language_window_start:
            self.language, self._language_window_start = result.language, result.window.start

    def add_segments(self, segments: Sequence[Segment]) -> None:
        """Append final segments and number them."""
        self.segments += [replace(segment, id=len(self.segments) + index) for index, segment in enumerate(segments)]

    def segments_from(self, result: WindowResult, until: float = math.inf) -> list[Segment]:
        """Segments of a window that pass the hallucination filter, with words if `word_timestamps` is on.

        A segment that begins at `until` (seconds of the recording) or later is left out: it is decoded again.
        """
        window = result.window
        if not self.filter.accept_window(result):
            return []
        segments = split_into_segments(
            result.window_transcript, window.start, window.duration, self.model.tokenizer, self.timestamps
        )
        segments = [replace(segment, temperature=result.temperature) for segment in segments if segment.start < until]
        if self.options.word_timestamps and segments:
            segments = attach_words(segments, self.words_from(result))
        return self.filter.drop_far_segments(window, segments)

    def words_from(self, result: WindowResult, until: float | None = None) -> list[Word]:
        """Words of a window, in seconds of the recording, aligned within its first `until` seconds."""
        window, offset = result.window, result.window.start
        [words] = align_words(
            self.model,
            result.states[None],
            [result.window_transcript],
            [min(window.duration, until or window.duration)],
            waveforms=torch.from_numpy(window.waveform)[None],
            options=self.options,
            prefixes=[window.prefix],
        )
        return [replace(word, start=round(offset + word.start, 3), end=round(offset + word.end, 3)) for word in words]

    def transcript(self) -> Transcript:
        """The transcript of all final segments."""
        options, read_error = self.options, self.reader.read_error
        return Transcript(
            text=join_segments(self.segments, options.output_language(self.language_code)),
            segments=tuple(self.segments),
            language=self.language_code,
            language_probability=self.language.probability if self.language else 0.0,
            duration=max(self._windows_end, self.reader.duration or 0.0),
            filtered_segments=tuple(self.filter.merged_segments()),
            read_error=str(read_error) if read_error else None,
            translated=options.task == "translate",
        )
