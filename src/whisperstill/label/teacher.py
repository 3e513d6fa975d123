"""The teacher and its one visit to a window.

Everything a student needs from the teacher is computed while it labels: the encoder's states, and the distribution
at every token of its own greedy output. Nothing later runs the teacher's encoder again; `windows_encoded` counts
its visits so that a report can prove it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.decode.greedy import Decoded, detect_languages, greedy
from whisperstill.decode.rules import Rules
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.whisper import Whisper, best_dtype
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit to one window gave."""

    language: str
    decoded: Decoded
    states: Float[Tensor, "positions width"]


class Teacher:
    """A Whisper network with its vocabulary, ready to label."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        timestamps: bool = False,
        task: str = "transcribe",
    ) -> None:
        self.checkpoint = checkpoint
        self.network = Whisper.from_state(checkpoint.dims, checkpoint.state, dtype or best_dtype(device), device)
        self.vocabulary = Vocabulary.of(checkpoint.dims.vocab)
        self.tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab)
        self.timestamps = timestamps
        self.task = task
        self.rules = Rules(self.vocabulary, checkpoint.generation, timestamps, device)
        self.windows_encoded = 0

    @torch.inference_mode()
    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows. The only place where the teacher's encoder runs."""
        self.windows_encoded += len(waveforms)
        mel = log_mel(waveforms.to(self.network.device), self.checkpoint.dims.mels)
        # One window after the other: a batch gains nothing on a CPU, and its temporaries would not fit the caches.
        if self.network.device.type == "cpu":
            return torch.cat([self.network.encoder(one[None]) for one in mel])
        states: Tensor = self.network.encoder(mel)
        return states

    def visit(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        top: int,
        max_new_tokens: int,
    ) -> list[Visit]:
        """Label windows: encode once, decode greedily, observe.

        Windows of unknown language (None) are decoded in the language the teacher detects. Raises `SettingsError`
        when an English-only teacher is handed another language.
        """
        states = self.encode(waveforms)
        known = self._languages(states, languages)
        results: list[Visit | None] = [None] * len(states)
        for language in dict.fromkeys(known):
            rows = [row for row, code in enumerate(known) if code == language]
            start = self.vocabulary.start(language, self.task, self.timestamps)
            tokens = torch.tensor([start] * len(rows), device=self.network.device)
            chosen = states if len(rows) == len(states) else states[rows]
            decoded = greedy(self.network, chosen, tokens, self.rules, max_new_tokens=max_new_tokens, top=top)
            for row, one in zip(rows, decoded, strict=True):
                results[row] = Visit(language, one, states[row].cpu())
        return [visit for visit in results if visit is not None]

    def _languages(self, states: Tensor, languages: Sequence[str | None]) -> list[str]:
        if not self.vocabulary.multilingual:
            foreign = sorted({code for code in languages if code not in (None, "en")} - {None})
            if foreign:
                raise SettingsError(
                    f"teacher {self.checkpoint.source} knows English only, the corpus has "
                    f"{', '.join(map(str, foreign))}: "
                    "use a multilingual teacher"
                )
            return ["en"] * len(languages)
        unknown = [row for row, code in enumerate(languages) if code is None]
        codes = [code or "" for code in languages]
        if unknown:
            for row, (code, _) in zip(
                unknown, detect_languages(self.network, states[unknown], self.rules), strict=True
            ):
                codes[row] = code
        return codes
