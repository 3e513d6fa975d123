"""A recogniser that says what it is told, and waveforms that can be told apart."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from whisperstill.decode.observed import Decoded, Observed
from whisperstill.decode.recogniser import Recognised, Recogniser
from whisperstill.model.dims import Dims
from whisperstill.model.generation import Generation
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

DIMS = Dims(mels=80, vocab=51865, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=2)


def decoded(tokens: Sequence[int], *, no_speech: float = 0.0, logprob: float = -0.1, ended: bool = True) -> Decoded:
    """Tokens as if a network had said them, each with this log-probability."""
    steps = len(tokens) + ended
    plain, empty = torch.zeros(steps), torch.zeros(steps, 0)
    said = torch.full((steps,), logprob)
    observed = Observed(said, plain, plain, plain, empty.long(), empty, torch.zeros(steps, 4), said)
    return Decoded(tuple(tokens), ended, no_speech, observed)


Script = Callable[[float, str], Decoded]
"""From the first sample of a window and the language to what is heard."""


class Scripted(Recogniser):
    """Hears what a script says. The encoder's state of a window is its first sample, or 1 where that is 0."""

    def __init__(self, tokenizer: Tokenizer, script: Script) -> None:
        self.source, self.dims = "script", DIMS
        self.generation = Generation((), (), ())
        self.metadata: dict[str, object] = {}
        self.vocabulary: Vocabulary = tokenizer.vocabulary
        self.tokenizer = tokenizer
        self.network = SimpleNamespace(device=torch.device("cpu"))  # type: ignore[assignment]
        self.script = script
        self.assistant = None
        self.batches: list[int] = []
        self.detected: list[float] = []

    def encode(self, waveforms: Tensor) -> Tensor:
        """See `Recogniser`."""
        self.batches.append(len(waveforms))
        return waveforms[:, :1, None].clone()

    def detect(self, states: Tensor) -> list[tuple[str, float]]:
        """German where the first sample is negative."""
        self.detected += states[:, 0, 0].tolist()
        return [("de" if state[0, 0] < 0 else "en", 0.75) for state in states]

    def decode(self, states: Tensor, languages: Sequence[str], **options: object) -> list[Recognised]:
        """See `Recogniser`."""
        heard = [self.script(float(state[0, 0]), code) for state, code in zip(states, languages, strict=True)]
        return [
            Recognised(code, self.tokenizer.decode(one.tokens).strip(), one)
            for code, one in zip(languages, heard, strict=True)
        ]


def tone(seconds: float, first: float, generator: np.random.Generator | None = None) -> np.ndarray:
    """Noise whose first sample is known."""
    generator = generator or np.random.default_rng(0)
    wave = generator.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32).clip(-0.9, 0.9)
    wave[0] = first
    return wave
