"""Windows cut from one recording, with everything they are decoded with: prompt, prefix, language, speech spans."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, SpeechSpans, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.prompts import build_prompt, tokenize_text
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE


@dataclass(frozen=True)
class LongFormContext:
    """Model and options shared by all recordings of a run."""

    model: WhisperModel
    options: DecodingOptions
    timestamps: bool
    """Whether timestamp tokens are decoded."""

    @property
    def condition_on_previous_text(self) -> bool:
        """Whether `sequential` prompts each window with the preceding text."""
        requested = self.options.condition_on_previous_text
        return not self.model.trained_without_prompts if requested is None else requested

    @property
    def prompt(self) -> tuple[int, ...]:
        """Prompt of windows that are not prompted with the preceding text."""
        return build_prompt(self.model.tokenizer, self.options.initial_prompt, self.options.hotwords)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Forced beginning of the first window's transcript: at most 111 tokens, to leave room for others."""
        return tuple(tokenize_text(self.model.tokenizer, self.options.prefix)[: MAX_PROMPT_TOKENS // 2])

    @property
    def initial_prompt_tokens(self) -> list[int]:
        """Tokens of the initial prompt."""
        return tokenize_text(self.model.tokenizer, self.options.initial_prompt)


class WindowSource:
    """Audio of one recording, cut into windows."""

    def __init__(
        self, context: LongFormContext, recording_id: int, reader: AudioReader, language: DetectedLanguage | None
    ) -> None:
        """`language` None: detected in the first window with speech."""
        self.context, self.recording_id, self.reader = context, recording_id, reader
        self.language = language
        self._language_window_start = math.inf
        self._windows_end = 0.0
        """Seconds at which the last window ends."""

    @property
    def language_code(self) -> str:
        """ISO 639-1; English until the language is known."""
        return self.language.code if self.language else "en"

    @property
    def output_language(self) -> str:
        """Language of the text: English if it is translated."""
        return self.context.options.output_language(self.language_code)

    @property
    def duration(self) -> float:
        """Seconds of audio read so far."""
        return max(self._windows_end, self.reader.duration or 0.0)

    def make_window(
        self,
        start: float,
        waveform: Float32[np.ndarray, "samples"],
        prompt: tuple[int, ...] | None = None,
        prefix: tuple[int, ...] = (),
    ) -> AudioWindow:
        """The window of this waveform; `prompt` None: the initial prompt and hotwords."""
        context, duration = self.context, len(waveform) / SAMPLE_RATE
        self._windows_end = max(self._windows_end, start + duration)
        return AudioWindow(
            start,
            waveform,
            duration,
            language=None if context.options.multilingual else self.language,
            prompt=context.prompt if prompt is None else prompt,
            prefix=prefix,
            recording_id=self.recording_id,
            speech=SpeechSpans.detect(waveform) if context.options.hallucination_filter else None,
        )

    def update_language(self, result: WindowResult) -> None:
        """Make the language of the earliest window with speech that of the recording and of its next windows."""
        if result.language is not None and result.window.start < self._language_window_start:
            self.language, self._language_window_start = result.language, result.window.start
