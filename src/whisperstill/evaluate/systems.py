"""Systems that a suite evaluates: a checkpoint in whisperstill, or in an external engine.

A system turns the utterances of a dataset into greedy hypotheses: one window each, or a long-form transcription.
`identity` is everything that its texts depend on: part of the cache key. Whisperstill systems share encoder states
through an `EncoderCache`, and each is charged for the encoding.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.corpus.loading import AudioTransform, Waveform, load_waveforms, read_ahead
from whisperstill.decode.longform.recordings import Recording, TranscriptionSession
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError, SettingsError
from whisperstill.evaluate.engines import load_engine
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.records import Skipped, Utterance
from whisperstill.records.eval_results import ModelInfo
from whisperstill.records.json_value import JsonValue
from whisperstill.units import WINDOW_SECONDS

Advance: TypeAlias = Callable[[float], None]
"""Receives the seconds of audio done."""
MAX_CACHE_BYTES = 4 * 2**30
"""Size limit of the cache; states beyond it are computed again."""


@dataclass(frozen=True, slots=True)
class DecodeMode:
    """How a dataset is decoded."""

    decoding: str = "short"
    """`short`: one window per utterance up to 30 s; else a long-form strategy."""
    chunk_length: float = 0.0
    """Chunk length, seconds; 0: the strategy's default."""
    batch_size: int = 16

    @property
    def options(self) -> DecodingOptions | None:
        """Options of the long-form strategy."""
        if self.decoding == "short":
            return None
        return DecodingOptions(
            long_form=self.decoding, chunk_length=self.chunk_length or None, batch_size=self.batch_size
        )


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Texts by utterance id, and the time they took."""

    texts: dict[str, str]
    seconds: float
    """Wall-clock time, with the encoding that a cache saved."""
    skipped: tuple[Skipped, ...]
    """Utterances whose audio cannot be read to its end."""
    threads: int = field(default_factory=torch.get_num_threads)


class EncoderCache:
    """Encoder states by encoder and utterances; nothing is stored unless `shared`.

    A student's encoder is its teacher's, and encoding is most of the work: without the cache, comparing the two would
    run the same encoder over the same windows twice.
    """

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._entries: dict[tuple[str, ...], tuple[Tensor, float]] = {}
        self._bytes = 0

    def encode(
        self, model: WhisperModel, encoder: str, batch: Sequence[Utterance], waveforms: Float[Tensor, "batch samples"]
    ) -> tuple[Float[Tensor, "batch positions width"], float]:
        """States of a batch of windows, and the seconds of encoding that the cache saved.

        `encoder` identifies its weights and compute type.
        """
        padding_mode = "padded" if model.trimmed_encoder is None else "trimmed"
        key = (encoder, padding_mode, *(utterance.id for utterance in batch))
        if key in self._entries:
            return self._entries[key]
        start_time = time.perf_counter()
        encoder_states = model.encode(waveforms)
        size = encoder_states.numel() * encoder_states.element_size()
        if self._shared and self._bytes + size <= MAX_CACHE_BYTES:
            if encoder_states.device.type == "cuda":
                torch.cuda.synchronize()
            self._entries[key] = (encoder_states, time.perf_counter() - start_time)
            self._bytes += size
        return encoder_states, 0.0


class WhisperstillSystem:
    """A checkpoint in whisperstill."""

    def __init__(
        self, name: str, source: str, role: str, device: str, dtype: torch.dtype, trim_padding: bool, int8: bool = False
    ) -> None:
        self.checkpoint: Checkpoint = load_checkpoint(source)
        self._device, self._dtype, self._trim_padding, self._int8 = device, dtype, trim_padding, int8
        dims, parameters = self.checkpoint.dims, self.checkpoint.parameter_counts
        self.info = ModelInfo(
            name=name,
            source=source,
            role=role,
            sha256=self.checkpoint.sha256,
            parameters=parameters.total,
            parameters_encoder=parameters.encoder,
            parameters_decoder=parameters.decoder,
            parameters_embedding=parameters.embedding,
            encoder_layers=dims.encoder_layers,
            decoder_layers=dims.decoder_layers,
            dtype="int8" if int8 else str(dtype).removeprefix("torch."),
            device=device,
        )

    @cached_property
    def model(self) -> WhisperModel:
        """The model, loaded on first use."""
        return self.build_model(None)

    def build_model(self, draft: Checkpoint | None) -> WhisperModel:
        """A new model with a draft model. Raises `SettingsError` for a draft with another vocabulary."""
        return WhisperModel(
            self.checkpoint,
            device=self._device,
            dtype=self._dtype,
            trim_padding=self._trim_padding,
            int8=self._int8,
            assistant=draft,
        )

    @property
    def identity(self) -> dict[str, JsonValue]:
        return {
            "weights": self.checkpoint.sha256,
            "tokenizer": hashlib.sha256(self.checkpoint.tokenizer_json).hexdigest(),
            "generation": repr(self.checkpoint.generation_config),
            "prompts": self.checkpoint.metadata.get("trained_with_prompts"),
            "timestamps": self.checkpoint.metadata.get("trained_with_timestamps"),
            "dtype": self.info.dtype,
            "device": self._device,
            "trim_padding": self._trim_padding,
        }

    def supports(self, mode: DecodeMode) -> bool:
        """Whether the engine can decode this way."""
        return True

    def transcribe_dataset(
        self,
        utterances: Sequence[Utterance],
        mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None,
        advance: Advance,
    ) -> Hypotheses:
        """Texts of readable utterances. Raises `SettingsError` for a language that the model does not have."""
        for language in {utterance.language for utterance in utterances}:
            self.model.resolve_language(language)
        encoder_key = f"{self.checkpoint.encoder_sha256} {self.info.dtype}"  # other dtypes give other states
        encode = partial(encoder_cache.encode, self.model, encoder_key)
        return decode_utterances(self.model, utterances, mode, encode, audio_transform, advance)


class ExternalSystem:
    """A checkpoint in an external engine. Its own long-form algorithm counts as `sequential`."""

    def __init__(
        self, name: str, source: str, role: str, engine_name: str, device: str, dtype: str, cache: Path
    ) -> None:
        self._engine = load_engine(engine_name, source, cache, device=device, dtype=dtype)
        description = self._engine.description
        self.info = ModelInfo(
            name=name,
            source=source,
            engine=engine_name,
            role=role,
            sha256=description.sha256,
            encoder_layers=description.dims.encoder_layers,
            decoder_layers=description.dims.decoder_layers,
            dtype=self._engine.dtype,
            device=self._engine.device,
        )

    @property
    def identity(self) -> dict[str, JsonValue]:
        engine, description = self._engine, self._engine.description
        return {
            "weights": description.sha256,
            "suppress_tokens": list(description.suppress_tokens),
            "language": description.language,
            "timestamps": description.timestamps,
            "engine": self.info.engine,
            "engine_version": engine.version,
            "dtype": engine.dtype,
            "device": engine.device,
        }

    def supports(self, mode: DecodeMode) -> bool:
        """Whether the engine can decode this way."""
        return mode.decoding in ("short", "sequential") and not mode.chunk_length

    def transcribe_dataset(
        self,
        utterances: Sequence[Utterance],
        mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None,
        advance: Advance,
    ) -> Hypotheses:
        """Batches hold utterances of similar length; those over 30 s are recordings to every engine."""
        texts: dict[str, str] = {}
        skipped: list[Skipped] = []
        seconds = 0.0
        by_length = sorted(utterances, key=lambda utterance: -utterance.audio.duration)
        for start in range(0, len(by_length), mode.batch_size):
            start_time = time.perf_counter()  # reading audio counts, as it does in whisperstill
            batch = by_length[start : start + mode.batch_size]
            readable, waveforms, unreadable = load_waveforms(batch, audio_transform)
            skipped += unreadable
            for long_form in (False, True):
                group = [
                    (utterance, waveform)
                    for utterance, waveform in zip(readable, waveforms, strict=True)
                    if long_form == (mode.decoding != "short" or utterance.audio.duration > WINDOW_SECONDS)
                ]
                if group:
                    languages = [utterance.language for utterance, _ in group]
                    transcripts = self._engine.transcribe([w for _, w in group], languages, long_form=long_form)
                    texts |= {utterance.id: text for (utterance, _), text in zip(group, transcripts, strict=True)}
            seconds += time.perf_counter() - start_time
            advance(sum(utterance.audio.duration for utterance in readable))
        return Hypotheses(texts, seconds, tuple(skipped))


System: TypeAlias = WhisperstillSystem | ExternalSystem


def decode_utterances(
    model: WhisperModel,
    utterances: Sequence[Utterance],
    mode: DecodeMode,
    encode: Callable[[Sequence[Utterance], Tensor], tuple[Tensor, float]],
    audio_transform: AudioTransform | None,
    advance: Advance,
) -> Hypotheses:
    """Greedy hypotheses: utterances up to 30 s as one window without timestamps, longer ones as recordings without
    timestamps. With a long-form strategy, all are transcribed as recordings.

    `encode` maps utterances and their padded waveforms to encoder states and the seconds that a cache saved.
    `audio_transform` changes each waveform before encoding. Raises `SettingsError` for a language that the model does
    not have, and for an `audio_transform` with utterances over 30 s.
    """
    start_time = time.perf_counter()
    options, batch_size = mode.options, mode.batch_size
    # 1. Select the utterances that are one window each.
    short = [utterance for utterance in utterances if options is None and utterance.audio.duration <= WINDOW_SECONDS]
    long = [utterance for utterance in utterances if options is not None or utterance.audio.duration > WINDOW_SECONDS]
    if audio_transform is not None and long:
        raise SettingsError("expected utterances up to 30 s under a noise condition, got longer ones: leave them out")
    # 2. Decode them in batches.
    short.sort(key=lambda utterance: -utterance.audio.duration)  # similar lengths together
    batches = [short[start : start + batch_size] for start in range(0, len(short), batch_size)]
    loaded_batches = read_ahead(batches, lambda batch: load_waveforms(batch, audio_transform))
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    saved_seconds = 0.0
    for batch, (readable, waveforms, unreadable) in zip(batches, loaded_batches, strict=True):
        skipped += unreadable
        if readable:
            encoder_states, batch_saved_seconds = encode(readable, stack_windows(waveforms))
            saved_seconds += batch_saved_seconds
            languages = model.resolve_languages(encoder_states, [utterance.language for utterance in readable])
            transcripts = model.decode(encoder_states, languages)
            texts |= {u.id: transcript.text for u, transcript in zip(readable, transcripts, strict=True)}
        advance(sum(utterance.audio.duration for utterance in batch))
    # 3. Transcribe the others as recordings.
    options = options or DecodingOptions(without_timestamps=True, batch_size=batch_size)
    recordings = (Recording(u.audio.path, u.audio.start, u.audio.duration, u.language) for u in long)
    results = TranscriptionSession(model, options).transcribe(recordings, advance)
    for utterance, (_, result) in zip(long, results, strict=True):
        if isinstance(result, AudioError) or result.read_error:  # half a recording would count as deleted words
            error = result if isinstance(result, AudioError) else result.read_error
            skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
        else:
            texts[utterance.id] = result.text
    return Hypotheses(texts, time.perf_counter() - start_time + saved_seconds, tuple(skipped))


def stack_windows(waveforms: Sequence[Waveform]) -> Float32[Tensor, "batch samples"]:
    """Waveforms padded or trimmed to 30 s, as one batch."""
    return torch.from_numpy(np.stack([pad_or_trim(waveform) for waveform in waveforms]))
