"""What hears: a checkpoint in our own engine, or in another one.

Both give texts by utterance and the time it took. Ours shares encoder states between models that have the same
encoder, and charges each for them.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from whisperstill.audio.audio_files import load_audio
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError
from whisperstill.evaluate.encoder_cache import EncoderCache
from whisperstill.evaluate.engines import load_engine
from whisperstill.evaluate.inference import AudioTransform, decode_utterances
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.records import Skipped, Utterance
from whisperstill.records.eval_results import ModelInfo
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class DecodeMode:
    """How a set is decoded."""

    decoding: str = "short"
    """`short`: windows of up to 30 s; else a strategy for longer recordings."""
    chunk_length: float = 0.0
    """Seconds; 0: the strategy's own."""
    batch_size: int = 16

    @property
    def options(self) -> DecodingOptions | None:
        """Of longer recordings."""
        if self.decoding == "short":
            return None
        return DecodingOptions(
            long_form=self.decoding, chunk_length=self.chunk_length or None, batch_size=self.batch_size
        )


@dataclass(frozen=True, slots=True)
class TimedHypotheses:
    """Texts by the utterance's id."""

    texts: dict[str, str]
    seconds: float
    skipped: tuple[Skipped, ...]


def exceeds_window(utterance: Utterance) -> bool:
    """Whether it does not fit into a window."""
    return utterance.audio.duration > WINDOW_SECONDS


class System(Protocol):
    """A model that hears."""

    info: ModelInfo

    @property
    def identity(self) -> dict[str, Any]:
        """All of it that what it hears depends on."""
        ...

    def supports(self, decode_mode: DecodeMode) -> bool:
        """Whether it can decode so."""
        ...

    def transcribe(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None,
        advance: Callable[[float], None],
    ) -> TimedHypotheses:
        """Every utterance, or why not."""
        ...


class WhisperstillSystem:
    """A checkpoint in our engine."""

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
        """Made when it is first needed."""
        if self._model is None:
            self._model = self.build_model(None)
        return self._model

    def build_model(self, draft: Checkpoint | None) -> WhisperModel:
        """A model of the same kind with a draft. Raises `SettingsError` for one with another vocabulary."""
        return WhisperModel(
            self.checkpoint,
            device=self._device,
            dtype=self._dtype,
            trim_padding=self._trim_padding,
            int8=self._int8,
            assistant=draft,
        )

    @property
    def identity(self) -> dict[str, Any]:
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

    def transcribe(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None,
        advance: Callable[[float], None],
    ) -> TimedHypotheses:
        """See `System`. Raises `SettingsError` for a language that the model does not know."""
        for language in {utterance.language for utterance in utterances}:
            self.model.resolve_language(language)
        encoder_cache.saved_seconds = 0.0
        encoder_key = f"{self.checkpoint.encoder_sha256} {self.info.dtype}"  # another type hears other states
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
        return TimedHypotheses(
            hypotheses.texts, time.perf_counter() - start_time + encoder_cache.saved_seconds, hypotheses.skipped
        )


class ExternalSystem:
    """A checkpoint in an engine that is not ours. Long recordings it hears in its own way, which is taken as
    `sequential`."""

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
    def identity(self) -> dict[str, Any]:
        """See `System`."""
        external_engine, description = self._engine, self._engine.description
        return {
            "weights": description.sha256,
            "suppress_tokens": description.suppress_tokens,
            "language": description.language,
            "timestamps": description.timestamps,
            "engine": external_engine.name,
            "engine_version": external_engine.version,
            "dtype": external_engine.dtype,
            "device": external_engine.device,
        }

    def supports(self, decode_mode: DecodeMode) -> bool:
        """See `System`."""
        return decode_mode.decoding in ("short", "sequential") and not decode_mode.chunk_length

    def transcribe(
        self,
        utterances: Sequence[Utterance],
        decode_mode: DecodeMode,
        encoder_cache: EncoderCache,
        audio_transform: AudioTransform | None,
        advance: Callable[[float], None],
    ) -> TimedHypotheses:
        """See `System`. Utterances of like length are handed over together; those over 30 s are recordings to it."""
        texts: dict[str, str] = {}
        skipped: list[Skipped] = []
        seconds = 0.0
        sorted_utterances = sorted(utterances, key=lambda utterance: -utterance.audio.duration)
        for batch_start in range(0, len(sorted_utterances), decode_mode.batch_size):
            batch, waveforms = [], []
            start_time = time.perf_counter()  # reading counts, as in ours
            for utterance in sorted_utterances[batch_start : batch_start + decode_mode.batch_size]:
                try:
                    waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
                except AudioError as error:
                    skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
                    continue
                batch.append(utterance)
                waveforms.append(waveform if audio_transform is None else audio_transform(utterance, waveform))
            for long_form in (False, True):
                indices = [
                    index
                    for index, utterance in enumerate(batch)
                    if long_form == (decode_mode.decoding != "short" or exceeds_window(utterance))
                ]
                languages = [batch[index].language for index in indices]
                transcripts = (
                    self._engine.transcribe([waveforms[index] for index in indices], languages, long_form=long_form)
                    if indices
                    else []
                )
                texts |= {batch[index].id: text for index, text in zip(indices, transcripts, strict=True)}
            seconds += time.perf_counter() - start_time
            advance(sum(utterance.audio.duration for utterance in batch))
        return TimedHypotheses(texts, seconds, tuple(skipped))
