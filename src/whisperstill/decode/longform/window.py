"""A window on its way through the engine."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from whisperstill.decode.longform.hallucination_filter import SpeechSpans
from whisperstill.decode.whisper_model import WindowTranscript


@dataclass(slots=True)
class DetectedLanguage:
    """The language of one or more windows: detected in the first that is heard, where nobody named it."""

    code: str | None = None
    """ISO 639-1."""
    probability: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class AudioWindow:
    """Up to 30 s of a recording, to be heard."""

    start: float
    """Seconds from the recording's beginning."""
    waveform: Float32[np.ndarray, "samples"]
    duration: float
    """Seconds of audio in it."""
    detected_language: DetectedLanguage
    prompt: tuple[int, ...] = ()
    """Tokens of the text before (see `Recogniser.prompt`)."""
    prefix: tuple[int, ...] = ()
    """Tokens that the transcript begins with."""
    owner: object = None
    """Who asked for it."""
    speech: SpeechSpans | None = None
    """Where somebody speaks in it; None where nobody looked."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """A window and what was heard in it."""

    window: AudioWindow
    window_transcript: WindowTranscript
    temperature: float
    states: Float[Tensor, "positions width"]
    """What the encoder said of it; no positions where it was not asked."""
    loop_text: str = ""
    """Text that was left out because it only repeats what stands before it."""
