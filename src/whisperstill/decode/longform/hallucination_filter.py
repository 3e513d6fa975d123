"""Against words that nobody said: windows without speech, text far from any voice, loops.

Whisper was trained on subtitles, and says "thank you" to silence, noise and music: large-v3 emits words on more than
half of silent clips. Its own probability of silence catches some of that; a voice detector, which looks at the audio
and not at the text, catches most of the rest. A window without any voice is not decoded at all. What is taken out is
kept with its reason (`Suppressed`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32

from whisperstill.audio.vad import detect_speech_spans
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats
from whisperstill.text.vocabulary import Vocabulary

MAX_DISTANCE_FROM_SPEECH_S = 1.0
"""Seconds from any voice at which text is not believed; times of words and segments are seldom as wrong as that."""
MAX_CHARACTERS_PER_SPEECH_S = 30.0
"""Characters a second of voice that nobody speaks: fast English has 20, and stretches of voice are padded."""
DOUBTFUL_LOGPROB_FACTOR = 1.5
"""Times the log-probability at which a window is decoded again: what is below in the end, at every temperature, is
what the network says of dishes and engines (-1.8 to -2.9), and of speech only where it understands next to nothing."""
SPARSE_SPEECH_RATIO = 0.5
"""Share of a window with a voice below which the network's doubts are believed: a detector takes moments for voices,
and where somebody speaks throughout, a bad transcript is better than none."""
MIN_LOOP_COPIES = 5
"""Copies of the same tokens in a row that are a loop."""
MIN_LOOP_TOKENS = 12
"""Tokens that all copies have at least."""
MAX_LOOP_PERIOD_TOKENS = 64
"""Tokens of the longest phrase that is looked for."""


@dataclass(frozen=True, slots=True)
class SpeechSpans:
    """Where in a window somebody speaks."""

    spans: tuple[tuple[float, float], ...]
    """Begin and end in seconds from the window's beginning."""

    @classmethod
    def detect(cls, waveform: Float32[np.ndarray, "samples"]) -> "SpeechSpans":
        """Looked for by silero-vad where that is installed, else by energy."""
        return cls(tuple((start, start + duration) for start, duration in detect_speech_spans([waveform])))

    def is_far_from_speech(self, start: float, end: float) -> bool:
        """Whether nobody speaks within `FAR` seconds of a stretch."""
        return not any(
            begin - MAX_DISTANCE_FROM_SPEECH_S < end and start < stop + MAX_DISTANCE_FROM_SPEECH_S
            for begin, stop in self.spans
        )

    def is_plausible_length(self, text: str) -> bool:
        """Whether this much can have been said while somebody speaks."""
        return len(text) <= MAX_CHARACTERS_PER_SPEECH_S * self.speech_seconds()

    def speech_seconds(self, start: float = 0.0, end: float = math.inf) -> float:
        """How long somebody speaks in a stretch."""
        return sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in self.spans)


def empty_result(width: int) -> DecodingResult:
    """What is decoded where nothing is: no tokens, certainly silent."""
    ones, empty = torch.zeros(1), torch.zeros(1, 0)
    token_stats = TokenStats(ones, ones, ones, ones, empty.long(), empty, torch.zeros(1, width), ones)
    return DecodingResult((), True, 1.0, token_stats)


def find_repetition_loops(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """The places of tokens that only repeat those before them; of each loop the first copy is not among them.

    A loop is a phrase said `COPIES` times or more without a word between. Timestamps are not compared.
    """
    text_indices = [index for index, token in enumerate(tokens) if vocabulary.is_text(token)]
    text_tokens = np.array([tokens[index] for index in text_indices], dtype=np.int64)
    repeated_positions: set[int] = set()
    for period in range(1, min(MAX_LOOP_PERIOD_TOKENS, len(text_tokens) // MIN_LOOP_COPIES) + 1):
        equals_previous_period = np.concatenate(
            [[False], text_tokens[period:] == text_tokens[:-period], [False]]
        ).astype(np.int8)
        run_bounds = np.flatnonzero(np.diff(equals_previous_period)).reshape(-1, 2)
        for begin, end in run_bounds.tolist():
            repeated_length = (end - begin) // period * period
            if repeated_length >= (MIN_LOOP_COPIES - 1) * period and repeated_length + period >= MIN_LOOP_TOKENS:
                repeated_positions.update(range(begin + period, begin + period + repeated_length))
    # A timestamp between two copies goes with them.
    repeated_indices = {text_indices[position] for position in repeated_positions}
    first_repeated = min(repeated_indices, default=0)
    timestamp_indices = {
        index
        for index, token in enumerate(tokens)
        if vocabulary.is_timestamp(token)
        and index > first_repeated
        and index - 1 in repeated_indices
        and index + 1 in repeated_indices
    }
    return sorted(repeated_indices | timestamp_indices)


def drop_tokens(decoded: DecodingResult, indices: Sequence[int]) -> DecodingResult:
    """The same without the tokens at these places."""
    dropped = set(indices)
    tokens = tuple(token for index, token in enumerate(decoded.tokens) if index not in dropped)
    kept_indices = [index for index in range(len(decoded.token_stats.logprob)) if index not in dropped]
    fields = {name: getattr(decoded.token_stats, name)[kept_indices] for name in TokenStats.__dataclass_fields__}
    return replace(decoded, tokens=tokens, token_stats=TokenStats(**fields))
