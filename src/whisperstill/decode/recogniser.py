"""A checkpoint ready to hear: network, vocabulary, tokenizer and rules, on a device.

Three steps that can be taken apart: `encode` windows, `detect` the language of those whose language nobody knows,
`decode` them, speculatively where there is an assistant: the same tokens. Labelling and evaluation go this way;
transcription feeds the same `pool` window by window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.decode.drafts import Draft, Nobody, StudentDraft
from whisperstill.decode.languages import detect_languages
from whisperstill.decode.observed import Decoded
from whisperstill.decode.pace import BLOCKS, Pace
from whisperstill.decode.pool import Job, Pool
from whisperstill.decode.rules import MAX_INITIAL_TIMESTAMP, Rules
from whisperstill.decode.short_list import short_list
from whisperstill.decode.speculation import Speculation
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.int8 import int8_is_there, to_int8
from whisperstill.model.true_length import TrueLength
from whisperstill.model.whisper import Whisper, best_dtype
from whisperstill.text.languages import language_code
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, SAMPLES_PER_POSITION

EXACT_BLOCK = 8
"""Tokens of the blocks of `exact` decoding."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was heard in one window."""

    language: str
    text: str
    """Without timestamps, without space at the ends."""
    decoded: Decoded

    @property
    def mean_logprob(self) -> float:
        """Mean natural-log probability of the tokens among those the rules allow, the end token included (as
        openai/whisper defines it: an end that did not come is counted and costs nothing)."""
        return float(self.decoded.observed.allowed.sum()) / (len(self.decoded.tokens) + 1)


class Recogniser:
    """A Whisper checkpoint on a device. `dtype` None: bf16 where the hardware multiplies it fast, else fp32.

    `int8` decodes and encodes with products of 8-bit integers (CPU). An `assistant`, a smaller checkpoint with the same
    vocabulary, proposes tokens for this one to verify; what is heard stays this one's. Where both have the same
    encoder, as a student of this checkpoint has, it runs once. With `true_length` the encoder computes no more of a
    window than holds sound (see `model.true_length`): states are then nearly the same. Raises `SettingsError` for an
    assistant with another vocabulary, and for int8 where there is none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        int8: bool = False,
        assistant: Checkpoint | None = None,
        true_length: bool = False,
    ) -> None:
        self.source = checkpoint.source
        self.dims = checkpoint.dims
        self.generation = checkpoint.generation
        self.metadata = checkpoint.metadata
        if int8:
            dtype = torch.float32
        self.network = Whisper.from_state(checkpoint.dims, checkpoint.state, dtype or best_dtype(device), device)
        if int8:
            to_int8(self.network.encoder)  # hears one window at a time
            to_int8(self.network.decoder, by_row=True)  # what is decoded may not depend on who shares the batch
        self.true_length = TrueLength(self.network.encoder) if true_length else None
        """Hears in the encoder's place; None where whole windows are heard."""
        self.vocabulary = Vocabulary.of(checkpoint.dims.vocab)
        self.tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab)
        self._rules = {kind: Rules(self.vocabulary, self.generation, kind, device) for kind in (False, True)}
        self._pool: Pool | None = None
        self._pace = Pace((1,) if assistant is None else BLOCKS)  # what one pool learnt serves the next
        self.speculation = Speculation()
        """What was decoded so far, and what the assistant did for it."""
        self.assistant: Recogniser | None = None
        if assistant is not None:
            self.assistant = self._assisted_by(assistant, checkpoint, device)

    def _assisted_by(self, assistant: Checkpoint, checkpoint: Checkpoint, device: str) -> "Recogniser":
        if assistant.dims.vocab != self.dims.vocab:
            raise SettingsError(
                f"the assistant must have the model's vocabulary: {assistant.source} has {assistant.dims.vocab} "
                f"tokens, {self.source} has {self.dims.vocab}"
            )
        helper = Recogniser(
            assistant, device=device, dtype=self.network.dtype, true_length=self.true_length is not None
        )
        if assistant.encoder_sha256 == checkpoint.encoder_sha256:
            helper.network.encoder = self.network.encoder
        if device == "cpu" and int8_is_there():
            to_int8(helper.network.decoder)  # what it proposes is verified: the fastest will do
        return helper

    @property
    def without_timestamps(self) -> bool:
        """Whether this is a student that never saw timestamps: it is then decoded without."""
        return self.metadata.get("trained_with_timestamps") is False

    @property
    def without_prompts(self) -> bool:
        """Whether this is a student that never saw the text before a window: it does not know what to do with it."""
        return "teacher" in self.metadata and not self.metadata.get("trained_with_prompts", False)

    @torch.inference_mode()
    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows (`WINDOW_SAMPLES` each), on the network's device."""
        mel = log_mel(waveforms.to(self.network.device), self.dims.mels)
        if self.true_length is not None:
            return self.true_length(mel, [_positions(waveform) for waveform in waveforms])
        # One window after the other: a batch gains nothing on a CPU, and its temporaries would not fit the caches.
        if self.network.device.type == "cpu":
            return torch.cat([self.network.encoder(one[None]) for one in mel])
        states: Tensor = self.network.encoder(mel)
        return states

    def draft_states(
        self, waveforms: Float[Tensor, "batch samples"], states: Float[Tensor, "batch positions width"]
    ) -> Float[Tensor, "batch positions draft_width"] | None:
        """What the assistant's own encoder hears of windows; None without one."""
        if self.assistant is None or self.assistant.network.encoder is self.network.encoder:
            return None
        return self.assistant.encode(waveforms)

    def detect(self, states: Float[Tensor, "batch positions width"]) -> list[tuple[str, float]]:
        """The most probable language of each window and its probability; ("en", 1) for an English-only network."""
        return detect_languages(self.network, states, self.vocabulary)

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

    def prompt(self, text: str | Sequence[int] | None, hotwords: str | None = None) -> tuple[int, ...]:
        """The tokens that tell the network what was said before; none for none (see `prompt_of`)."""
        return self.prompt_of(self.tokens_of(text), hotwords)

    def tokens_of(self, text: str | Sequence[int] | None) -> list[int]:
        """A text's tokens as they stand within a transcript: with a space before it. Tokens are what they are.

        Raises `SettingsError` for a token that is not in the vocabulary.
        """
        if not isinstance(text, str | None):
            if wrong := [token for token in text if not 0 <= token < self.dims.vocab]:
                raise SettingsError(f"initial_prompt must be text or ids of 0 to {self.dims.vocab - 1}, got {wrong[0]}")
            return list(text)
        text = (text or "").strip()
        return self.tokenizer.encode(f" {text}") if text else []

    def prompt_of(self, said: Sequence[int], hotwords: str | None = None) -> tuple[int, ...]:
        """The same for tokens: `<|startofprev|>`, the hotwords, and the last of 223 tokens in all."""
        words = self.tokens_of(hotwords)[: MAX_PROMPT_TOKENS // 2]
        before = [*words, *said[len(said) - min(len(said), MAX_PROMPT_TOKENS - len(words)) :]]
        return (self.vocabulary.start_of_previous, *before) if before else ()

    def pool(
        self,
        size: int,
        *,
        rules: Rules,
        top: int = 0,
        exact: bool = False,
    ) -> Pool:
        """Slots for `size` windows, with the assistant as draft where there is one. See `Pool`."""
        make, blocks = self.make_draft(rules), (1,) if self.assistant is None else BLOCKS
        if exact:
            make, blocks = make or (lambda size, capacity: Nobody()), (EXACT_BLOCK,)
        return Pool(self.network, rules, size, top, make, blocks, exact, None if exact else self._pace)

    def make_draft(self, rules: Rules) -> Callable[[int, int], Draft] | None:
        """What makes the assistant's draft for a number of slots and their tokens; None without an assistant."""
        if self.assistant is None:
            return None
        decoder, positions = self.assistant.network.decoder, self.assistant.dims.positions
        listed, seen = None, self.assistant.metadata.get("tokens_seen")
        if isinstance(seen, list):
            listed = torch.tensor(short_list(self.vocabulary, seen), device=self.network.device)
        return lambda size, capacity: StudentDraft(decoder, size, positions, capacity, rules, listed)

    def rules(
        self, timestamps: bool, suppress: Sequence[int] = (-1,), max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP
    ) -> Rules:
        """Which tokens may come next; -1 among `suppress` stands for those of the checkpoint's own settings.

        Raises `SettingsError` for a token that is not in the vocabulary.
        """
        wrong = [token for token in suppress if not -1 <= token < self.dims.vocab]
        if wrong:
            raise SettingsError(f"suppress_tokens must be -1 to {self.dims.vocab - 1}, got {wrong[0]}")
        own = self.generation.suppress if -1 in suppress else ()
        barred = tuple(dict.fromkeys((*own, *(token for token in suppress if token >= 0))))
        generation = replace(self.generation, suppress=barred)
        return Rules(self.vocabulary, generation, timestamps, self.network.device, max_initial_timestamp)

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
        """Greedy transcripts of encoded windows, in order.

        An assistant with an encoder of its own needs `draft_states` (see there); `ValueError` without.
        `prompt` (see `prompt`) stands before every window's start tokens; `top` as in `Record`. Raises
        `SettingsError` for a language or a task that the network does not know.
        """
        jobs = [
            Job(
                state,
                (*prompt, *self.vocabulary.start(language, task, timestamps)),
                None if draft_states is None else draft_states[row],
                max_new_tokens=max_new_tokens,
            )
            for row, (state, language) in enumerate(zip(states, languages, strict=True))
        ]
        if not jobs:
            return []
        if draft_states is None and self.assistant and self.assistant.network.encoder is not self.network.encoder:
            raise ValueError("the assistant has an encoder of its own: give the draft_states of these windows")
        pool, self._pool = self._kept_pool(len(jobs), timestamps, top), None
        found = pool.run(jobs)
        self.speculation += pool.counts
        pool.counts = Speculation()
        self._pool = pool  # one whose run failed half-way is not kept
        return [
            Recognised(language, self.tokenizer.decode(decoded.tokens).strip(), decoded)
            for language, decoded in zip(languages, found, strict=True)
        ]

    def _kept_pool(self, size: int, timestamps: bool, top: int) -> Pool:
        """The pool of the last batch, where it serves for this one: its memory is there already."""
        kept, rules = self._pool, self._rules[timestamps]
        serves = kept is not None and not kept.busy and kept.size >= size and kept.top == top
        if kept is None or not serves or kept.rules is not rules or kept.network is not self.network:
            kept = self.pool(size, rules=rules, top=top)
        return kept

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


def _positions(waveform: Float[Tensor, "samples"]) -> int:
    """Encoder positions up to the last sample that is not digital silence."""
    sound = waveform.nonzero()
    return -(-(int(sound[-1]) + 1) // SAMPLES_PER_POSITION) if len(sound) else 0
