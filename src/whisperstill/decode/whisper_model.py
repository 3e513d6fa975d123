"""A checkpoint ready to hear: network, vocabulary, tokenizer and rules, on a device.

Three steps that can be taken apart: `encode` windows, `detect` the language of those whose language nobody knows,
`decode` them, speculatively where there is an assistant: the same tokens. Labelling and evaluation go this way;
transcription feeds the same `BatchScheduler` window by window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import BLOCK_SIZES, DraftLengthController
from whisperstill.decode.generate.draft_model import DraftModel, NetworkDraft, NullDraft
from whisperstill.decode.generate.draft_vocabulary import select_draft_vocabulary
from whisperstill.decode.generate.language_detection import detect_languages
from whisperstill.decode.generate.logit_filter import MAX_INITIAL_TIMESTAMP_S, LogitFilter
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.int8 import is_int8_supported, to_int8
from whisperstill.model.trimmed_encoder import TrimmedEncoder
from whisperstill.model.whisper import Whisper, best_dtype
from whisperstill.text.languages import language_code
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, SAMPLES_PER_POSITION

DETERMINISTIC_BLOCK_SIZE = 8
"""Tokens of the blocks of `deterministic` decoding."""


@dataclass(frozen=True, slots=True)
class WindowTranscript:
    """What was heard in one window."""

    language: str
    text: str
    """Without timestamps, without space at the ends."""
    result: DecodingResult

    @property
    def avg_logprob(self) -> float:
        """Mean natural-log probability of the tokens among those the rules allow, the end token included (as
        openai/whisper defines it: an end that did not come is counted and costs nothing)."""
        return float(self.result.token_stats.filtered_logprob.sum()) / (len(self.result.tokens) + 1)


class WhisperModel:
    """A Whisper checkpoint on a device. `dtype` None: bfloat16 where the hardware multiplies it fast, else float32.

    `int8` decodes and encodes with products of 8-bit integers (CPU). An `assistant`, a smaller checkpoint with the same
    vocabulary, proposes tokens for this one to verify; what is heard stays this one's. Where both have the same
    encoder, as a student of this checkpoint has, it runs once. With `trim_padding` the encoder computes no more of a
    window than holds sound (see `model.trimmed_encoder`): states are then nearly the same. Raises `SettingsError` for
    an assistant with another vocabulary, and for int8 where there is none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        int8: bool = False,
        assistant: Checkpoint | None = None,
        trim_padding: bool = False,
    ) -> None:
        self.source = checkpoint.source
        self.dims = checkpoint.dims
        self.generation_config = checkpoint.generation_config
        self.metadata = checkpoint.metadata
        if int8:
            dtype = torch.float32
        self.network = Whisper.from_state(checkpoint.dims, checkpoint.state, dtype or best_dtype(device), device)
        if int8:
            to_int8(self.network.encoder)  # hears one window at a time
            to_int8(self.network.decoder, per_row=True)  # what is decoded may not depend on who shares the batch
        self.trimmed_encoder = TrimmedEncoder(self.network.encoder) if trim_padding else None
        """Hears in the encoder's place; None where whole windows are heard."""
        self.vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
        self.tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size)
        self._logit_filters = {
            timestamps: LogitFilter(self.vocabulary, self.generation_config, timestamps, device)
            for timestamps in (False, True)
        }
        self._scheduler: BatchScheduler | None = None
        self._length_controller = DraftLengthController(
            (1,) if assistant is None else BLOCK_SIZES
        )  # what one pool learnt serves the next
        self.speculative_stats = SpeculativeStats()
        """What was decoded so far, and what the assistant did for it."""
        self.assistant: WhisperModel | None = None
        if assistant is not None:
            self.assistant = self._load_assistant(assistant, checkpoint, device)

    def _load_assistant(self, assistant: Checkpoint, checkpoint: Checkpoint, device: str) -> "WhisperModel":
        if assistant.dims.vocab_size != self.dims.vocab_size:
            raise SettingsError(
                f"the assistant must have the model's vocabulary: {assistant.source} has {assistant.dims.vocab_size} "
                f"tokens, {self.source} has {self.dims.vocab_size}"
            )
        assistant_model = WhisperModel(
            assistant, device=device, dtype=self.network.dtype, trim_padding=self.trimmed_encoder is not None
        )
        if assistant.encoder_sha256 == checkpoint.encoder_sha256:
            assistant_model.network.encoder = self.network.encoder
        if device == "cpu" and is_int8_supported():
            to_int8(assistant_model.network.decoder)  # what it proposes is verified: the fastest will do
        return assistant_model

    @property
    def trained_without_timestamps(self) -> bool:
        """Whether this is a student that never saw timestamps: it is then decoded without."""
        return self.metadata.get("trained_with_timestamps") is False

    @property
    def trained_without_prompts(self) -> bool:
        """Whether this is a student that never saw the text before a window: it does not know what to do with it."""
        return "teacher" in self.metadata and not self.metadata.get("trained_with_prompts", False)

    @torch.inference_mode()
    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows (`WINDOW_SAMPLES` each), on the network's device."""
        mel = log_mel(waveforms.to(self.network.device), self.dims.mels)
        if self.trimmed_encoder is not None:
            return self.trimmed_encoder(mel, [_num_positions(waveform) for waveform in waveforms])
        # One window after the other: a batch gains nothing on a CPU, and its temporaries would not fit the caches.
        if self.network.device.type == "cpu":
            return torch.cat([self.network.encoder(mel_window[None]) for mel_window in mel])
        encoder_states: Tensor = self.network.encoder(mel)
        return encoder_states

    def encode_for_draft(
        self, waveforms: Float[Tensor, "batch samples"], encoder_states: Float[Tensor, "batch positions width"]
    ) -> Float[Tensor, "batch positions draft_width"] | None:
        """What the assistant's own encoder hears of windows; None without one."""
        if self.assistant is None or self.assistant.network.encoder is self.network.encoder:
            return None
        return self.assistant.encode(waveforms)

    def detect_language(self, encoder_states: Float[Tensor, "batch positions width"]) -> list[tuple[str, float]]:
        """The most probable language of each window and its probability; ("en", 1) for an English-only network."""
        return detect_languages(self.network, encoder_states, self.vocabulary)

    def resolve_language(self, language: str | None) -> str | None:
        """The code of the language that will be decoded: the one asked for, else the checkpoint's own, else None.

        Raises `SettingsError` for a language the network does not know.
        """
        if self.vocabulary.multilingual:
            requested = language or self.generation_config.language
            if requested is None:
                return None
            self.vocabulary.language_token(requested)
            return language_code(requested)
        if language is not None and language_code(language) != "en":
            raise SettingsError(f"{self.source} knows English only, got {language}: use a multilingual model")
        return "en"

    def resolve_languages(
        self, encoder_states: Float[Tensor, "batch positions width"], languages: Sequence[str | None]
    ) -> list[str]:
        """A language for every window: what `resolve_language` says, detected where that is None."""
        codes = [self.resolve_language(language) for language in languages]
        unknown = [row for row, code in enumerate(codes) if code is None]
        if unknown:
            for row, (code, _) in zip(unknown, self.detect_language(encoder_states[unknown]), strict=True):
                codes[row] = code
        return [code or "en" for code in codes]

    def build_prompt(self, text: str | Sequence[int] | None, hotwords: str | None = None) -> tuple[int, ...]:
        """The tokens that tell the network what was said before; none for none (see `build_prompt_from_tokens`)."""
        return self.build_prompt_from_tokens(self.tokenize(text), hotwords)

    def tokenize(self, text: str | Sequence[int] | None) -> list[int]:
        """A text's tokens as they stand within a transcript: with a space before it. Tokens are what they are.

        Raises `SettingsError` for a token that is not in the vocabulary.
        """
        if not isinstance(text, str | None):
            if invalid := [token for token in text if not 0 <= token < self.dims.vocab_size]:
                raise SettingsError(
                    f"initial_prompt must be text or ids of 0 to {self.dims.vocab_size - 1}, got {invalid[0]}"
                )
            return list(text)
        text = (text or "").strip()
        return self.tokenizer.encode(f" {text}") if text else []

    def build_prompt_from_tokens(self, tokens: Sequence[int], hotwords: str | None = None) -> tuple[int, ...]:
        """The same for tokens: `<|startofprev|>`, the hotwords, and the last of 223 tokens in all."""
        hotword_tokens = self.tokenize(hotwords)[: MAX_PROMPT_TOKENS // 2]
        previous_tokens = [
            *hotword_tokens,
            *tokens[len(tokens) - min(len(tokens), MAX_PROMPT_TOKENS - len(hotword_tokens)) :],
        ]
        return (self.vocabulary.start_of_previous, *previous_tokens) if previous_tokens else ()

    def make_scheduler(
        self,
        batch_size: int,
        *,
        logit_filter: LogitFilter,
        top_k: int = 0,
        deterministic: bool = False,
    ) -> BatchScheduler:
        """Slots for `batch_size` windows, with the assistant as draft where there is one. See `BatchScheduler`."""
        make_draft, block_sizes = self.make_draft_factory(logit_filter), (1,) if self.assistant is None else BLOCK_SIZES
        if deterministic:
            make_draft, block_sizes = (
                make_draft or (lambda batch_size, capacity: NullDraft()),
                (DETERMINISTIC_BLOCK_SIZE,),
            )
        return BatchScheduler(
            self.network,
            logit_filter,
            batch_size,
            top_k,
            make_draft,
            block_sizes,
            deterministic,
            None if deterministic else self._length_controller,
        )

    def make_draft_factory(self, logit_filter: LogitFilter) -> Callable[[int, int], DraftModel] | None:
        """What makes the assistant's draft for a number of slots and their tokens; None without an assistant."""
        if self.assistant is None:
            return None
        decoder, positions = self.assistant.network.decoder, self.assistant.dims.max_source_positions
        draft_token_ids, training_tokens = None, self.assistant.metadata.get("frequent_tokens")
        if isinstance(training_tokens, list):
            draft_token_ids = torch.tensor(
                select_draft_vocabulary(self.vocabulary, training_tokens), device=self.network.device
            )
        return lambda batch_size, capacity: NetworkDraft(
            decoder, batch_size, positions, capacity, logit_filter, draft_token_ids
        )

    def make_logit_filter(
        self,
        timestamps: bool,
        suppress_tokens: Sequence[int] = (-1,),
        max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP_S,
    ) -> LogitFilter:
        """Which tokens may come next; -1 among `suppress_tokens` stands for those of the checkpoint's own settings.

        Raises `SettingsError` for a token that is not in the vocabulary.
        """
        invalid = [token for token in suppress_tokens if not -1 <= token < self.dims.vocab_size]
        if invalid:
            raise SettingsError(f"suppress_tokens must be -1 to {self.dims.vocab_size - 1}, got {invalid[0]}")
        checkpoint_tokens = self.generation_config.suppress_tokens if -1 in suppress_tokens else ()
        resolved_tokens = tuple(
            dict.fromkeys((*checkpoint_tokens, *(token for token in suppress_tokens if token >= 0)))
        )
        generation_config = replace(self.generation_config, suppress_tokens=resolved_tokens)
        return LogitFilter(self.vocabulary, generation_config, timestamps, self.network.device, max_initial_timestamp)

    def decode(
        self,
        encoder_states: Float[Tensor, "batch positions width"],
        languages: Sequence[str],
        *,
        task: str = "transcribe",
        timestamps: bool = False,
        prompt: Sequence[int] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
        top_k: int = 0,
        draft_encoder_states: Float[Tensor, "batch positions draft_width"] | None = None,
    ) -> list[WindowTranscript]:
        """Greedy transcripts of encoded windows, in order.

        An assistant with an encoder of its own needs `draft_encoder_states` (see `encode_for_draft`); `ValueError`
        without. `prompt` (see `build_prompt`) stands before every window's start tokens; `top_k` as in
        `TokenStatsBuffer`. Raises `SettingsError` for a language or a task that the network does not know.
        """
        requests = [
            DecodeRequest(
                window_states,
                (*prompt, *self.vocabulary.sot_sequence(language, task, timestamps)),
                None if draft_encoder_states is None else draft_encoder_states[row],
                max_new_tokens=max_new_tokens,
            )
            for row, (window_states, language) in enumerate(zip(encoder_states, languages, strict=True))
        ]
        if not requests:
            return []
        if (
            draft_encoder_states is None
            and self.assistant
            and self.assistant.network.encoder is not self.network.encoder
        ):
            raise ValueError("the assistant has an encoder of its own: pass draft_encoder_states for these windows")
        scheduler, self._scheduler = self._get_scheduler(len(requests), timestamps, top_k), None
        results = scheduler.run(requests)
        self.speculative_stats += scheduler.speculative_stats
        scheduler.speculative_stats = SpeculativeStats()
        self._scheduler = scheduler  # one whose run failed half-way is not kept
        return [
            WindowTranscript(language, self.tokenizer.decode(result.tokens).strip(), result)
            for language, result in zip(languages, results, strict=True)
        ]

    def _get_scheduler(self, batch_size: int, timestamps: bool, top_k: int) -> BatchScheduler:
        """The pool of the last batch, where it serves for this one: its memory is there already."""
        scheduler, logit_filter = self._scheduler, self._logit_filters[timestamps]
        reusable = (
            scheduler is not None
            and not scheduler.num_busy_slots
            and scheduler.batch_size >= batch_size
            and scheduler.top_k == top_k
        )
        if (
            scheduler is None
            or not reusable
            or scheduler.logit_filter is not logit_filter
            or scheduler.network is not self.network
        ):
            scheduler = self.make_scheduler(batch_size, logit_filter=logit_filter, top_k=top_k)
        return scheduler

    def transcribe_windows(
        self,
        waveforms: Float[Tensor, "batch samples"],
        languages: Sequence[str | None],
        *,
        task: str = "transcribe",
        timestamps: bool = False,
    ) -> list[WindowTranscript]:
        """Encode, detect where a language is None, decode."""
        encoder_states = self.encode(waveforms)
        return self.decode(
            encoder_states,
            self.resolve_languages(encoder_states, languages),
            task=task,
            timestamps=timestamps,
            draft_encoder_states=self.encode_for_draft(waveforms, encoder_states),
        )


def _num_positions(waveform: Float[Tensor, "samples"]) -> int:
    """Encoder positions up to the last sample that is not digital silence."""
    nonzero_indices = waveform.nonzero()
    return -(-(int(nonzero_indices[-1]) + 1) // SAMPLES_PER_POSITION) if len(nonzero_indices) else 0
