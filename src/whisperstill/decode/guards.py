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

from whisperstill.audio.voice import voice_spans
from whisperstill.decode.observed import Decoded, Observed
from whisperstill.text.vocabulary import Vocabulary

FAR = 1.0
"""Seconds from any voice at which text is not believed; times of words and segments are seldom as wrong as that."""
FASTEST = 30.0
"""Characters a second of voice that nobody speaks: fast English has 20, and stretches of voice are padded."""
DOUBTED = 1.5
"""Times the log-probability at which a window is decoded again: what is below in the end, at every temperature, is
what the network says of dishes and engines (-1.8 to -2.9), and of speech only where it understands next to nothing."""
SPARSE = 0.5
"""Share of a window with a voice below which the network's doubts are believed: a detector takes moments for voices,
and where somebody speaks throughout, a bad transcript is better than none."""
COPIES = 5
"""Copies of the same tokens in a row that are a loop."""
LOOP_TOKENS = 12
"""Tokens that all copies have at least."""
LONGEST_PERIOD = 64
"""Tokens of the longest phrase that is looked for."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Where in a window somebody speaks."""

    spans: tuple[tuple[float, float], ...]
    """Begin and end in seconds from the window's beginning."""

    @classmethod
    def of(cls, waveform: Float32[np.ndarray, "samples"]) -> "Voice":
        """Looked for by silero-vad where that is installed, else by energy."""
        return cls(tuple((start, start + duration) for start, duration in voice_spans([waveform])))

    def is_far(self, start: float, end: float) -> bool:
        """Whether nobody speaks within `FAR` seconds of a stretch."""
        return not any(begin - FAR < end and start < stop + FAR for begin, stop in self.spans)

    def has_room_for(self, text: str) -> bool:
        """Whether this much can have been said while somebody speaks."""
        return len(text) <= FASTEST * self.seconds()

    def seconds(self, start: float = 0.0, end: float = math.inf) -> float:
        """How long somebody speaks in a stretch."""
        return sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in self.spans)


def nothing_heard(width: int) -> Decoded:
    """What is decoded where nothing is: no tokens, certainly silent."""
    one, empty = torch.zeros(1), torch.zeros(1, 0)
    observed = Observed(one, one, one, one, empty.long(), empty, torch.zeros(1, width), one)
    return Decoded((), True, 1.0, observed)


def loops(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """The places of tokens that only repeat those before them; of each loop the first copy is not among them.

    A loop is a phrase said `COPIES` times or more without a word between. Timestamps are not compared.
    """
    places = [at for at, token in enumerate(tokens) if vocabulary.is_text(token)]
    said = np.array([tokens[at] for at in places], dtype=np.int64)
    dropped: set[int] = set()
    for period in range(1, min(LONGEST_PERIOD, len(said) // COPIES) + 1):
        same = np.concatenate([[False], said[period:] == said[:-period], [False]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(same)).reshape(-1, 2)
        for begin, end in edges.tolist():
            whole = (end - begin) // period * period
            if whole >= (COPIES - 1) * period and whole + period >= LOOP_TOKENS:
                dropped.update(range(begin + period, begin + period + whole))
    # A timestamp between two copies goes with them.
    text = {places[at] for at in dropped}
    first = min(text, default=0)
    between = {
        at
        for at, token in enumerate(tokens)
        if vocabulary.is_timestamp(token) and at > first and at - 1 in text and at + 1 in text
    }
    return sorted(text | between)


def without(decoded: Decoded, places: Sequence[int]) -> Decoded:
    """The same without the tokens at these places."""
    gone = set(places)
    tokens = tuple(token for at, token in enumerate(decoded.tokens) if at not in gone)
    kept = [at for at in range(len(decoded.observed.logprob)) if at not in gone]
    fields = {name: getattr(decoded.observed, name)[kept] for name in Observed.__dataclass_fields__}
    return replace(decoded, tokens=tokens, observed=Observed(**fields))
