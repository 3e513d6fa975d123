"""A recogniser that says what it is told, and waveforms that can be told apart."""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from whisperstill.decode.guards import Voice
from whisperstill.decode.observed import Decoded, Observed
from whisperstill.decode.pool import Job
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.speculation import Speculation
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


class ScriptedPool:
    """As many slots as a real one; a window is done after a step."""

    def __init__(self, size: int, script: Script, vocabulary: Vocabulary, said: list[tuple[float, Job]]) -> None:
        self.size, self.counts = size, Speculation()
        self._script, self._vocabulary, self._said = script, vocabulary, said
        self._jobs: list[Job] = []

    @property
    def busy(self) -> int:
        """Windows in slots."""
        return len(self._jobs)

    @property
    def free(self) -> int:
        """Slots without a window."""
        return self.size - len(self._jobs)

    def put(self, jobs: Sequence[Job]) -> None:
        """See `Pool`."""
        assert len(jobs) <= self.free
        self._jobs += jobs

    def run(self, jobs: Sequence[Job]) -> list[Decoded]:
        """See `Pool`."""
        self.put(jobs)
        return [decoded for _, decoded in self.step()]

    def step(self) -> list[tuple[Job, Decoded]]:
        """See `Pool`."""
        done, self._jobs = self._jobs, []
        codes = {token: code for code, token in self._vocabulary.languages.items()}
        results = []
        for job in done:
            [language] = [codes[token] for token in job.start if token in codes]
            first = float(job.states[0, 0])
            self._said.append((first, job))
            results.append((job, self._script(first, language)))
        return results


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
        self.speculation = Speculation()
        self.batches: list[int] = []
        self.detected: list[float] = []
        self.said: list[tuple[float, Job]] = []
        """First sample and job of every window decoded, in order."""

    def encode(self, waveforms: Tensor) -> Tensor:
        """See `Recogniser`."""
        self.batches.append(len(waveforms))
        return waveforms[:, :1, None].clone()

    def detect(self, states: Tensor) -> list[tuple[str, float]]:
        """German where the first sample is negative."""
        self.detected += states[:, 0, 0].tolist()
        return [("de" if state[0, 0] < 0 else "en", 0.75) for state in states]

    def pool(self, size: int, **options: object) -> ScriptedPool:  # type: ignore[override]
        """See `Recogniser`."""
        return ScriptedPool(size, self.script, self.vocabulary, self.said)

    def _kept_pool(self, size: int, timestamps: bool, top: int) -> ScriptedPool:  # type: ignore[override]
        return self.pool(size)


def tone(seconds: float, first: float, generator: np.random.Generator | None = None) -> np.ndarray:
    """Noise whose first sample is known."""
    generator = generator or np.random.default_rng(0)
    wave = generator.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32).clip(-0.9, 0.9)
    wave[0] = first
    return wave


def somebody_always_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise holds no voice: without this no window of `tone` would be decoded. Nobody goes on when a window ends."""
    monkeypatch.setattr(Voice, "of", classmethod(lambda cls, waveform: cls(((0.0, 30.0),))))
    seconds = Voice.seconds

    def of_a_stretch(voice: Voice, start: float = 0.0, end: float = math.inf) -> float:
        return 0.0 if start and end == math.inf else seconds(voice, start, end)

    monkeypatch.setattr(Voice, "seconds", of_a_stretch)
