"""A checkpoint ready to hear: network, vocabulary, tokenizer and rules, on a device.

Three steps that can be taken apart: `encode` windows, `detect` the language of those whose language nobody knows,
`decode` greedily, or speculatively with an assistant: the same tokens. Labelling, evaluation and transcription all go
this way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.decode.drafts import StudentDraft
from whisperstill.decode.greedy import detect_languages, greedy
from whisperstill.decode.observed import Decoded
from whisperstill.decode.rules import Rules
from whisperstill.decode.speculative import Speculation, speculative
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.whisper import Whisper, best_dtype
from whisperstill.text.languages import language_code
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was heard in one window."""

    language: str
    text: str
    """Without timestamps, without space at the ends."""
    decoded: Decoded

    @property
    def mean_logprob(self) -> float:
        """Mean natural-log probability of the tokens, the end token included (before any rule barred a token)."""
        return float(self.decoded.observed.logprob.mean())


class Recogniser:
    """A Whisper checkpoint on a device. `dtype` None: bf16 where the hardware multiplies it fast, else fp32.

    An `assistant`, a smaller checkpoint with the same vocabulary, proposes tokens for this one to verify; what is
    heard stays this one's. Where both have the same encoder, as a student of this checkpoint has, it runs once.
    Raises `SettingsError` for an assistant with another vocabulary.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        assistant: Checkpoint | None = None,
    ) -> None:
        self.source = checkpoint.source
        self.dims = checkpoint.dims
        self.generation = checkpoint.generation
        self.metadata = checkpoint.metadata
        self.network = Whisper.from_state(checkpoint.dims, checkpoint.state, dtype or best_dtype(device), device)
        self.vocabulary = Vocabulary.of(checkpoint.dims.vocab)
        self.tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab)
        self._rules = {kind: Rules(self.vocabulary, self.generation, kind, device) for kind in (False, True)}
        self.speculation = Speculation()
        """What assistants did so far."""
        self.assistant: Recogniser | None = None
        if assistant is not None:
            if assistant.dims.vocab != self.dims.vocab:
                raise SettingsError(
                    f"the assistant must have the model's vocabulary: {assistant.source} has {assistant.dims.vocab} "
                    f"tokens, {self.source} has {self.dims.vocab}"
                )
            self.assistant = Recogniser(assistant, device=device, dtype=self.network.dtype)
            if assistant.encoder_sha256 == checkpoint.encoder_sha256:
                self.assistant.network.encoder = self.network.encoder

    @property
    def without_timestamps(self) -> bool:
        """Whether this is a student that never saw timestamps: it is then decoded without."""
        return self.metadata.get("trained_with_timestamps") is False

    @torch.inference_mode()
    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows (`WINDOW_SAMPLES` each), on the network's device."""
        mel = log_mel(waveforms.to(self.network.device), self.dims.mels)
        # One window after the other: a batch gains nothing on a CPU, and its temporaries would not fit the caches.
        if self.network.device.type == "cpu":
            return torch.cat([self.network.encoder(one[None]) for one in mel])
        states: Tensor = self.network.encoder(mel)
        return states

    def draft_states(
        self, waveforms: Float[Tensor, "batch samples"], states: Float[Tensor, "batch positions width"]
    ) -> Float[Tensor, "batch positions draft_width"] | None:
        """What the assistant hears of windows, given what this network hears; None without an assistant."""
        if self.assistant is None:
            return None
        return states if self.assistant.network.encoder is self.network.encoder else self.assistant.encode(waveforms)

    def detect(self, states: Float[Tensor, "batch positions width"]) -> list[tuple[str, float]]:
        """The most probable language of each window and its probability; ("en", 1) for an English-only network."""
        return detect_languages(self.network, states, self._rules[False])

    def known_language(self, language: str | None) -> str | None:
        """The code of the language that will be decoded: the one asked for, else the checkpoint's own, else None.

        Raises `SettingsError` for a language the network does not know.
        """
        if self.vocabulary.multilingual:
            wanted = language or self.generation.language
            if wanted is None:
                return None
            self.vocabulary.language_token(wanted)
            return language_code(wanted)
        if language is not None and language_code(language) != "en":
            raise SettingsError(f"{self.source} knows English only, got {language}: use a multilingual model")
        return "en"

    def languages(self, states: Float[Tensor, "batch positions width"], languages: Sequence[str | None]) -> list[str]:
        """A language for every window: what `known_language` says, detected where that is None."""
        codes = [self.known_language(language) for language in languages]
        unknown = [row for row, code in enumerate(codes) if code is None]
        if unknown:
            for row, (code, _) in zip(unknown, self.detect(states[unknown]), strict=True):
                codes[row] = code
        return [code or "en" for code in codes]

    def prompt(self, text: str | None) -> tuple[int, ...]:
        """The tokens that tell the network what was said before; the last 223 of a longer text, none for none."""
        if not text or not text.strip():
            return ()
        return (self.vocabulary.start_of_previous, *self.tokenizer.encode(f" {text.strip()}")[-MAX_PROMPT_TOKENS:])

    def decode(
        self,
        states: Float[Tensor, "batch positions width"],
        languages: Sequence[str],
        *,
        task: str = "transcribe",
        timestamps: bool = False,
        prompt: Sequence[int] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
        top: int = 0,
        draft_states: Float[Tensor, "batch positions draft_width"] | None = None,
    ) -> list[Recognised]:
        """Greedy transcripts of encoded windows, in order; windows of one language run as one batch.

        With `draft_states` (see there) the assistant proposes, and the transcripts are the same.
        `prompt` (see `prompt`) stands before every window's start tokens; `top` as in `greedy`. Raises
        `SettingsError` for a language or a task that the network does not know.
        """
        results: list[Recognised | None] = [None] * len(states)
        for language in dict.fromkeys(languages):
            rows = [row for row, code in enumerate(languages) if code == language]
            start = (*prompt, *self.vocabulary.start(language, task, timestamps))
            tokens = torch.tensor([start] * len(rows), device=self.network.device)
            chosen, drafted = states, draft_states
            if len(rows) < len(states):
                chosen, drafted = states[rows], None if draft_states is None else draft_states[rows]
            decoded = self._decode(chosen, drafted, tokens, self._rules[timestamps], max_new_tokens, top)
            for row, one in zip(rows, decoded, strict=True):
                results[row] = Recognised(language, self.tokenizer.decode(one.tokens).strip(), one)
        return [one for one in results if one is not None]

    def _decode(
        self,
        states: Float[Tensor, "batch positions width"],
        draft_states: Float[Tensor, "batch positions draft_width"] | None,
        start: Int[Tensor, "batch prompt"],
        rules: Rules,
        max_new_tokens: int,
        top: int,
    ) -> list[Decoded]:
        if self.assistant is None or draft_states is None:
            return greedy(self.network, states, start, rules, max_new_tokens=max_new_tokens, top=top)
        helper, heard = self.assistant.network, draft_states
        decoded, counts = speculative(
            self.network,
            states,
            start,
            rules,
            lambda capacity: StudentDraft(helper, heard, start, rules, capacity),
            max_new_tokens=max_new_tokens,
            top=top,
        )
        self.speculation += counts
        return decoded

    def recognise(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        task: str = "transcribe",
        timestamps: bool = False,
    ) -> list[Recognised]:
        """Encode, detect where a language is None, decode."""
        states = self.encode(waveforms)
        return self.decode(
            states,
            self.languages(states, languages),
            task=task,
            timestamps=timestamps,
            draft_states=self.draft_states(waveforms, states),
        )
