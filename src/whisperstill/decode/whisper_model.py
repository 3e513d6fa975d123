"""A Whisper checkpoint loaded on a device: network, tokenizer and vocabulary, with an optional assistant.

`encode` windows, `detect_language` where it is unknown, `decode` to text: labelling and evaluation use these three
steps. Transcription makes a `BatchScheduler` of its own and decodes windows as they come (`longform.window_decoder`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import BLOCK_SIZES, DraftLengthController
from whisperstill.decode.generate.draft_model import DraftModel, select_draft_vocabulary
from whisperstill.decode.generate.logit_filter import MAX_INITIAL_TIMESTAMP_S, LogitFilter
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.int8 import is_int8_supported, to_int8
from whisperstill.model.trimmed_encoder import TrimmedEncoder
from whisperstill.model.whisper import Whisper, best_dtype
from whisperstill.text.languages import language_code
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import MAX_NEW_TOKENS, SAMPLES_PER_POSITION

DETERMINISTIC_BLOCK_SIZE = 8
"""Tokens per block of `deterministic` decoding."""


@dataclass(frozen=True, slots=True)
class WindowTranscript:
    """Text and tokens decoded from one window."""

    language: str
    text: str
    """Without timestamps and surrounding spaces."""
    result: DecodingResult

    @property
    def avg_logprob(self) -> float:
        """Mean natural-log probability per token among the tokens the logit filter allows.

        The end token is counted, even where decoding stopped without one, as in openai/whisper.
        """
        return float(self.result.token_stats.filtered_logprob.sum()) / (len(self.result.tokens) + 1)


class WhisperModel:
    """A Whisper checkpoint on a device."""

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
        """`dtype` None: bfloat16 on hardware with fast bfloat16, else float32.

        `int8`: 8-bit matrix products in encoder and decoder (CPU only). `assistant`: a smaller checkpoint with the same
        vocabulary, used as the draft model of speculative decoding; the transcripts stay the same. If both checkpoints
        have the same encoder, as a student and its teacher do, it runs once. `trim_padding`: the encoder skips the
        silence at the end of a window (`TrimmedEncoder`); encoder states then differ slightly. Raises `SettingsError`
        for an assistant with another vocabulary, and for int8 on unsupported hardware.
        """
        self.source, self.dims, self.metadata = checkpoint.source, checkpoint.dims, checkpoint.metadata
        self.generation_config = checkpoint.generation_config
        if int8:
            dtype = torch.float32
        self.network = Whisper.from_state(checkpoint.dims, checkpoint.state, dtype or best_dtype(device), device)
        if int8:
            to_int8(self.network.encoder)  # on a CPU it processes one window at a time
            to_int8(self.network.decoder, per_row=True)  # so that results do not depend on the batch
        self.trimmed_encoder = TrimmedEncoder(self.network.encoder) if trim_padding else None
        """Used in place of the encoder; None without `trim_padding`."""
        self.vocabulary = Vocabulary.from_size(checkpoint.dims.vocab_size)
        self.tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size)
        self.assistant = None if assistant is None else self._load_assistant(assistant, checkpoint, device)
        # All schedulers share the measured draft lengths.
        self._length_controller = DraftLengthController((1,) if assistant is None else BLOCK_SIZES)
        self._schedulers: dict[tuple[bool, int, Whisper, GenerationConfig], BatchScheduler] = {}
        """The scheduler of the last `decode`, by timestamps, top_k, network and generation config."""

    def _load_assistant(self, assistant: Checkpoint, checkpoint: Checkpoint, device: str) -> "WhisperModel":
        if assistant.dims.vocab_size != self.dims.vocab_size:
            raise SettingsError(
                f"the assistant must have the model's vocabulary: {assistant.source} has {assistant.dims.vocab_size} "
                f"tokens, {self.source} has {self.dims.vocab_size}"
            )
        dtype, trim_padding = self.network.dtype, self.trimmed_encoder is not None
        assistant_model = WhisperModel(assistant, device=device, dtype=dtype, trim_padding=trim_padding)
        if assistant.encoder_sha256 == checkpoint.encoder_sha256:
            assistant_model.network.encoder = self.network.encoder
        if device == "cpu" and is_int8_supported():
            to_int8(assistant_model.network.decoder)  # fastest; errors do not matter, as all proposals are verified
        return assistant_model

    @property
    def trained_without_timestamps(self) -> bool:
        """Whether this is a student trained without timestamps, which is decoded without them by default."""
        return self.metadata.get("trained_with_timestamps") is False

    @property
    def trained_without_prompts(self) -> bool:
        """Whether this is a student trained without prompts, which makes poor use of previous text."""
        return "teacher" in self.metadata and not self.metadata.get("trained_with_prompts", False)

    @torch.inference_mode()
    def encode(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30-second windows (`WINDOW_SAMPLES` each), on the network's device."""
        mel = log_mel(waveforms.to(self.network.device), self.dims.mels)
        if self.trimmed_encoder is not None:
            return self.trimmed_encoder(mel, [_num_positions(waveform) for waveform in waveforms])
        # On a CPU a batch is no faster, and its temporaries do not fit the caches.
        if self.network.device.type == "cpu":
            return torch.cat([self.network.encoder(mel_window[None]) for mel_window in mel])
        encoder_states: Tensor = self.network.encoder(mel)
        return encoder_states

    def encode_for_draft(
        self, waveforms: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch positions draft_width"] | None:
        """Encoder states from the assistant's own encoder; None if there is no assistant or it shares the encoder."""
        return self.assistant.encode(waveforms) if self.assistant and self._assistant_has_own_encoder else None

    @property
    def _assistant_has_own_encoder(self) -> bool:
        return self.assistant is not None and self.assistant.network.encoder is not self.network.encoder

    @torch.inference_mode()
    def detect_language(self, encoder_states: Float[Tensor, "batch positions width"]) -> list[tuple[str, float]]:
        """The most probable language of each window and its probability; ("en", 1) for an English-only model.

        The language token is predicted after `<|startoftranscript|>`; the probability is among all languages.
        """
        network, vocabulary, batch = self.network, self.vocabulary, len(encoder_states)
        if not vocabulary.multilingual:
            return [("en", 1.0)] * batch
        sot_tokens = torch.full((batch, 1), vocabulary.start_of_transcript, device=network.device)
        position = torch.zeros(batch, dtype=torch.long, device=network.device)
        hidden = network.decoder(sot_tokens, position, network.decoder.prefill(encoder_states))[:, 0]
        codes, language_tokens = list(vocabulary.languages), torch.tensor([*vocabulary.languages.values()])
        logits = network.decoder.logits(hidden)[:, language_tokens.to(network.device)]
        probabilities, indices = logits.softmax(-1).max(-1)
        return list(zip([codes[index] for index in indices.tolist()], probabilities.tolist(), strict=True))

    def resolve_language(self, language: str | None) -> str | None:
        """ISO 639-1 code of the language to decode: `language`, else the checkpoint's default, else None.

        Raises `SettingsError` for a language that the model does not support.
        """
        return resolve_language(language, self.generation_config.language, self.vocabulary, self.source)

    def resolve_languages(
        self, encoder_states: Float[Tensor, "batch positions width"], languages: Sequence[str | None]
    ) -> list[str]:
        """Language code of every window: that of `resolve_language`, detected where that is None."""
        codes = [self.resolve_language(language) for language in languages]
        unknown = [row for row, code in enumerate(codes) if code is None]
        detected = iter(self.detect_language(encoder_states[unknown]) if unknown else ())
        return [next(detected)[0] if code is None else code for code in codes]

    def make_logit_filter(
        self,
        timestamps: bool,
        suppress_tokens: Sequence[int] = (-1,),
        max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP_S,
    ) -> LogitFilter:
        """Logit filter of this checkpoint; -1 in `suppress_tokens` stands for those of its generation config.

        Raises `SettingsError` for a token that is not in the vocabulary.
        """
        invalid = [token for token in suppress_tokens if not -1 <= token < self.dims.vocab_size]
        if invalid:
            raise SettingsError(f"suppress_tokens must be -1 to {self.dims.vocab_size - 1}, got {invalid[0]}")
        checkpoint_tokens = self.generation_config.suppress_tokens if -1 in suppress_tokens else ()
        resolved_tokens = {*checkpoint_tokens, *suppress_tokens} - {-1}
        generation_config = replace(self.generation_config, suppress_tokens=tuple(resolved_tokens))
        return LogitFilter(self.vocabulary, generation_config, timestamps, self.network.device, max_initial_timestamp)

    def make_draft_factory(self, logit_filter: LogitFilter) -> Callable[[int, int], DraftModel] | None:
        """Factory for `BatchScheduler.make_draft` from the assistant; None without an assistant."""
        if self.assistant is None:
            return None
        decoder, positions = self.assistant.network.decoder, self.assistant.dims.max_source_positions
        draft_token_ids, training_tokens = None, self.assistant.metadata.get("frequent_tokens")
        if isinstance(training_tokens, list):
            draft_vocabulary = select_draft_vocabulary(self.vocabulary, training_tokens)
            draft_token_ids = torch.tensor(draft_vocabulary, device=self.network.device)
        return lambda size, capacity: DraftModel(decoder, size, positions, capacity, logit_filter, draft_token_ids)

    def make_scheduler(
        self, batch_size: int, logit_filter: LogitFilter, *, top_k: int = 0, deterministic: bool = False
    ) -> BatchScheduler:
        """Scheduler with `batch_size` slots and the assistant, if any, as draft model."""
        make_draft, controller = self.make_draft_factory(logit_filter), self._length_controller
        if deterministic:
            controller = DraftLengthController((DETERMINISTIC_BLOCK_SIZE,))
        return BatchScheduler(self.network, logit_filter, batch_size, top_k, make_draft, controller, deterministic)

    def make_requests(
        self,
        encoder_states: Float[Tensor, "batch positions width"],
        languages: Sequence[str],
        *,
        timestamps: bool = False,
        max_new_tokens: int = MAX_NEW_TOKENS,
        draft_encoder_states: Float[Tensor, "batch positions draft_width"] | None = None,
    ) -> list[DecodeRequest]:
        """Requests for greedy transcripts of encoded windows.

        Raises `SettingsError` for a language that the model does not support, and `ValueError` if the assistant has its
        own encoder and `draft_encoder_states` (from `encode_for_draft`) are missing.
        """
        if languages and draft_encoder_states is None and self._assistant_has_own_encoder:
            raise ValueError("expected draft_encoder_states for an assistant with its own encoder, got None")
        draft_states = [None] * len(encoder_states) if draft_encoder_states is None else draft_encoder_states
        prompts = [self.vocabulary.sot_sequence(language, timestamps=timestamps) for language in languages]
        return [
            DecodeRequest(states, prompt_tokens, own_states, max_new_tokens=max_new_tokens)
            for states, prompt_tokens, own_states in zip(encoder_states, prompts, draft_states, strict=True)
        ]

    def decode(
        self,
        encoder_states: Float[Tensor, "batch positions width"],
        languages: Sequence[str],
        *,
        timestamps: bool = False,
        max_new_tokens: int = MAX_NEW_TOKENS,
        top_k: int = 0,
        draft_encoder_states: Float[Tensor, "batch positions draft_width"] | None = None,
    ) -> list[WindowTranscript]:
        """Greedy transcripts of encoded windows, in order.

        `top_k` is that of `TokenStatsBuffer`. Raises as `make_requests`.
        """
        requests = self.make_requests(
            encoder_states,
            languages,
            timestamps=timestamps,
            max_new_tokens=max_new_tokens,
            draft_encoder_states=draft_encoder_states,
        )
        if not requests:
            return []
        # 1. Use the scheduler of the last call again if it fits, because its memory is already allocated.
        key = timestamps, top_k, self.network, self.generation_config
        scheduler = self._schedulers.pop(key, None)
        if scheduler is None or scheduler.batch_size < len(requests):
            scheduler = self.make_scheduler(len(requests), self.make_logit_filter(timestamps), top_k=top_k)
        # 2. Keep it for the next call, unless decoding fails.
        self._schedulers.clear()
        results = scheduler.generate(requests)
        self._schedulers[key] = scheduler
        return [
            WindowTranscript(language, self.tokenizer.decode(result.tokens).strip(), result)
            for language, result in zip(languages, results, strict=True)
        ]


def _num_positions(waveform: Float[Tensor, "samples"]) -> int:
    """Encoder positions up to the last nonzero sample."""
    nonzero_indices = waveform.nonzero()
    return -(-(int(nonzero_indices[-1]) + 1) // SAMPLES_PER_POSITION) if len(nonzero_indices) else 0


def resolve_language(requested: str | None, default: str | None, vocabulary: Vocabulary, source: str) -> str | None:
    """ISO 639-1 code of the language to decode; None if it has to be detected.

    Raises `SettingsError`, naming the model `source`, for a language that the vocabulary does not have.
    """
    if not vocabulary.multilingual:
        if requested is not None and language_code(requested) != "en":
            raise SettingsError(f"{source} is English-only, got language {requested}; use a multilingual model")
        return "en"
    language = requested or default
    if language is None:
        return None
    vocabulary.language_token(language)
    return language_code(language)
