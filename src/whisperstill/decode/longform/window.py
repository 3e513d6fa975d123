"""Records that pass between long-form strategies and the window decoder: a window, and the result of decoding it."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from whisperstill.audio.vad import detect_speech_spans
from whisperstill.decode.whisper_model import WindowTranscript

MAX_DISTANCE_FROM_SPEECH_S = 1.0
"""Text further than this from any speech is filtered; timestamps are seldom off by more."""
MAX_CHARACTERS_PER_SPEECH_S = 30.0
"""Fastest plausible speech: fast English has 20 characters per second, and speech spans are padded."""


@dataclass(frozen=True, slots=True)
class DetectedLanguage:
    """Language of a window, named by the user or detected."""

    code: str
    """ISO 639-1."""
    probability: float = 1.0
    """1 where the user named the language."""


@dataclass(frozen=True, slots=True)
class SpeechSpans:
    """Speech in one window, from voice activity detection."""

    spans: tuple[tuple[float, float], ...]
    """Start and end in seconds from the start of the window."""

    @classmethod
    def detect(cls, waveform: Float32[np.ndarray, "samples"]) -> "SpeechSpans":
        """Spans found by silero-vad if it is installed, else by energy."""
        return cls(tuple((start, start + duration) for start, duration in detect_speech_spans([waveform])))

    def is_far_from_speech(self, start: float, end: float) -> bool:
        """Whether no speech lies within `MAX_DISTANCE_FROM_SPEECH_S` of the interval."""
        margin = MAX_DISTANCE_FROM_SPEECH_S
        return not any(begin - margin < end and start < stop + margin for begin, stop in self.spans)

    def is_plausible_length(self, text: str) -> bool:
        """Whether a text of this length can be spoken in the window's speech."""
        return len(text) <= MAX_CHARACTERS_PER_SPEECH_S * self.speech_seconds()

    def speech_seconds(self, start: float = 0.0, end: float = math.inf) -> float:
        """Seconds of speech within the interval."""
        return sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in self.spans)


@dataclass(frozen=True, slots=True, eq=False)
class AudioWindow:
    """Up to 30 s of a recording, ready to be decoded."""

    start: float
    """Seconds from the start of the recording."""
    waveform: Float32[np.ndarray, "samples"]
    duration: float
    """Seconds of audio."""
    language: DetectedLanguage | None
    """None: the language detected in the recording's first window with speech (`multilingual`: in this window)."""
    prompt: tuple[int, ...] = ()
    """Tokens of the preceding text (see `decode.prompts.build_prompt`)."""
    prefix: tuple[int, ...] = ()
    """Tokens the transcript is forced to begin with."""
    recording_id: int = 0
    """Recording the window belongs to, unique within a run."""
    speech: SpeechSpans | None = None
    """None if speech was not detected (hallucination filter off)."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """Transcript of a window."""

    window: AudioWindow
    window_transcript: WindowTranscript
    temperature: float
    states: Float[Tensor, "positions width"]
    """Encoder states; no positions if the window was not decoded."""
    language: DetectedLanguage | None = None
    """Language the window was decoded in; None if the window was not decoded."""
    loop_text: str = ""
    """Repetitions removed from the transcript."""
