"""A WhisperModel with scripted results, and waveforms identified by their first sample."""

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats
from whisperstill.decode.longform.window import SpeechSpans
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

DIMS = Dims(mels=80, vocab_size=51865, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=2)


def decoded(
    tokens: Sequence[int], *, no_speech: float = 0.0, logprob: float = -0.1, ended: bool = True
) -> DecodingResult:
    """DecodingResult of these tokens, each with this log-probability."""
    steps = len(tokens) + ended
    plain, empty = torch.zeros(steps), torch.zeros(steps, 0)
    logprobs = torch.full((steps,), logprob)
    observed = TokenStats(logprobs, plain, plain, plain, empty.long(), empty, torch.zeros(steps, 4), logprobs)
    return DecodingResult(tuple(tokens), ended, no_speech, observed)


Script = Callable[[float, str], DecodingResult]
"""From the first sample of a window and its language to the result."""


class ScriptedScheduler(BatchScheduler):
    """Scheduler with scripted results; every window finishes in one step."""

    def __init__(
        self, batch_size: int, script: Script, vocabulary: Vocabulary, requests: list[tuple[float, DecodeRequest]]
    ) -> None:
        self.batch_size, self.speculative_stats = batch_size, SpeculativeStats()
        self._script, self._vocabulary, self._decoded_requests = script, vocabulary, requests
        self._queue: deque[DecodeRequest] = deque()
        self._slots = []

    def step(self) -> list[tuple[DecodeRequest, DecodingResult]]:
        """Finish all windows with their scripted results."""
        done = [self._queue.popleft() for _ in range(min(self.batch_size, len(self._queue)))]
        codes = {token: code for code, token in self._vocabulary.languages.items()}
        results = []
        for job in done:
            [language] = [codes[token] for token in job.prompt_tokens if token in codes]
            first = float(job.encoder_states[0, 0])
            self._decoded_requests.append((first, job))
            results.append((job, self._script(first, language)))
        return results


class FakeNetwork:
    """Stands for a network on the CPU."""

    device = torch.device("cpu")


class Scripted(WhisperModel):
    """WhisperModel with scripted results. The encoder state of a window is its first sample."""

    def __init__(self, tokenizer: Tokenizer, script: Script) -> None:
        self.source, self.dims = "script", DIMS
        self.generation_config = GenerationConfig((), (), ())
        self.metadata: dict[str, object] = {}
        self.vocabulary: Vocabulary = tokenizer.vocabulary
        self.tokenizer = tokenizer
        self.network = FakeNetwork()  # type: ignore[assignment]
        self.script = script
        self.assistant = None
        self._schedulers = {}
        self.batches: list[int] = []
        self.detected: list[float] = []
        self.decoded_requests: list[tuple[float, DecodeRequest]] = []
        """First sample and request of every decoded window, in order."""

    def encode(self, waveforms: Tensor) -> Tensor:
        """First sample of every window."""
        self.batches.append(len(waveforms))
        return waveforms[:, :1, None].clone()

    def detect_language(self, encoder_states: Tensor) -> list[tuple[str, float]]:
        """German where the first sample is negative."""
        self.detected += encoder_states[:, 0, 0].tolist()
        return [("de" if state[0, 0] < 0 else "en", 0.75) for state in encoder_states]

    def make_scheduler(self, batch_size: int, *rules: object, **options: object) -> BatchScheduler:  # type: ignore[override]
        """A scheduler with scripted results."""
        return ScriptedScheduler(batch_size, self.script, self.vocabulary, self.decoded_requests)


def tone(seconds: float, first: float, generator: np.random.Generator | None = None) -> np.ndarray:
    """Noise whose first sample is known."""
    generator = generator or np.random.default_rng(0)
    wave = generator.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32).clip(-0.9, 0.9)
    wave[0] = first
    return wave


def detect_speech_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech throughout every window: otherwise no window of `tone` would be decoded. None after a transcript's end."""
    monkeypatch.setattr(SpeechSpans, "detect", classmethod(lambda cls, waveform: cls(((0.0, 30.0),))))
    seconds = SpeechSpans.speech_seconds

    def of_a_stretch(voice: SpeechSpans, start: float = 0.0, end: float = math.inf) -> float:
        return 0.0 if start and end == math.inf else seconds(voice, start, end)

    monkeypatch.setattr(SpeechSpans, "speech_seconds", of_a_stretch)
