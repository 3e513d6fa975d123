"""Systems that a suite evaluates: a checkpoint in whisperstill, or in an external engine.

Both return texts by utterance id and the time it took. Whisperstill systems share encoder states through an
`EncoderCache`, and each is charged for the encoding.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from whisperstill.corpus.loading import Waveform
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.encoder_cache import EncoderCache
from whisperstill.evaluate.engines import load_engine
from whisperstill.evaluate.inference import AudioTransform, decode_utterances, load_transformed
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.records import Skipped, Utterance
from whisperstill.records.eval_results import ModelInfo
from whisperstill.records.json_value import JsonValue
from whisperstill.units import WINDOW_SECONDS


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
class TimedHypotheses:
    """Texts by utterance id, and the time they took."""

    texts: dict[str, str]
    seconds: float
    skipped: tuple[Skipped, ...]


@runtime_checkable
class System(Protocol):
    """A model in an inference engine."""

    info: ModelInfo

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything about the system that its texts depend on: part of the cache key."""
        ...

    def supports(self, decode_mode: DecodeMode) -> bool:
        """Whether the engine can decode this way."""
        ...

    def transcribe_dataset(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
    ) -> TimedHypotheses:
        """Texts of all utterances that can be read; `advance` receives the seconds of audio done.

        Raises `SettingsError` for a language that the model does not have.
        """
        ...


class WhisperstillSystem:
    """A checkpoint in whisperstill."""

    def __init__(
        self, name: str, source: str, role: str, device: str, dtype: torch.dtype, trim_padding: bool, int8: bool = False
    ) -> None:
        self.checkpoint: Checkpoint = load_checkpoint(source)
        self._device, self._dtype, self._trim_padding, self._int8 = device, dtype, trim_padding, int8
        self._model: WhisperModel | None = None
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

    @property
    def model(self) -> WhisperModel:
        """The model, loaded on first use."""
        if self._model is None:
            self._model = self.build_model(None)
        return self._model

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
        """See `System`."""
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

    def supports(self, decode_mode: DecodeMode) -> bool:
        """See `System`."""
        return True

    def transcribe_dataset(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
    ) -> TimedHypotheses:
        """See `System`."""
        for language in {utterance.language for utterance in utterances}:
            self.model.resolve_language(language)
        encoder_key = f"{self.checkpoint.encoder_sha256} {self.info.dtype}"  # other dtypes give other states
        start_time = time.perf_counter()
        hypotheses = decode_utterances(
            self.model,
            utterances,
            batch_size=decode_mode.batch_size,
            advance=advance,
            encode=lambda batch, waveforms: encoder_cache.encode(self.model, encoder_key, batch, waveforms),
            audio_transform=audio_transform,
            options=decode_mode.options,
        )
        seconds = time.perf_counter() - start_time + hypotheses.saved_encoding_seconds
        return TimedHypotheses(hypotheses.texts, seconds, hypotheses.skipped)


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
        """See `System`."""
        engine, description = self._engine, self._engine.description
        return {
            "weights": description.sha256,
            "suppress_tokens": list(description.suppress_tokens),
            "language": description.language,
            "timestamps": description.timestamps,
            "engine": engine.name,
            "engine_version": engine.version,
            "dtype": engine.dtype,
            "device": engine.device,
        }

    def supports(self, decode_mode: DecodeMode) -> bool:
        """See `System`."""
        return decode_mode.decoding in ("short", "sequential") and not decode_mode.chunk_length

    def transcribe_dataset(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
    ) -> TimedHypotheses:
        """See `System`. Batches hold utterances of similar length; those over 30 s are recordings to every engine."""
        texts: dict[str, str] = {}
        skipped: list[Skipped] = []
        seconds = 0.0
        by_length = sorted(utterances, key=lambda utterance: -utterance.audio.duration)
        for start in range(0, len(by_length), decode_mode.batch_size):
            start_time = time.perf_counter()  # reading audio counts, as it does in whisperstill
            readable, waveforms, unreadable = load_transformed(
                by_length[start : start + decode_mode.batch_size], audio_transform
            )
            skipped += unreadable
            texts |= self._transcribe_batch(readable, waveforms, force_long_form=decode_mode.decoding != "short")
            seconds += time.perf_counter() - start_time
            advance(sum(utterance.audio.duration for utterance in readable))
        return TimedHypotheses(texts, seconds, tuple(skipped))

    def _transcribe_batch(
        self, utterances: Sequence[Utterance], waveforms: Sequence[Waveform], *, force_long_form: bool
    ) -> dict[str, str]:
        """Texts by utterance id; short and long utterances are passed to the engine in separate calls."""
        texts: dict[str, str] = {}
        for long_form in (False, True):
            indices = [
                index
                for index, utterance in enumerate(utterances)
                if long_form == (force_long_form or utterance.audio.duration > WINDOW_SECONDS)
            ]
            if indices:
                transcripts = self._engine.transcribe(
                    [waveforms[index] for index in indices],
                    [utterances[index].language for index in indices],
                    long_form=long_form,
                )
                texts |= {utterances[index].id: text for index, text in zip(indices, transcripts, strict=True)}
        return texts
