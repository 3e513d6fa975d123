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

from whisperstill.audio.files import load_audio
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.errors import AudioError
from whisperstill.evaluate.engines import engine
from whisperstill.evaluate.hypotheses import Change, decode_utterances
from whisperstill.evaluate.shelf import Shelf
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.records import Skipped, Utterance
from whisperstill.records.findings import ModelMeasured
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Way:
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
            strategy=self.decoding, chunk_length=self.chunk_length or None, batch_size=self.batch_size
        )


@dataclass(frozen=True, slots=True)
class Listened:
    """Texts by the utterance's id."""

    texts: dict[str, str]
    seconds: float
    skipped: tuple[Skipped, ...]


def over(utterance: Utterance) -> bool:
    """Whether it does not fit into a window."""
    return utterance.audio.duration > WINDOW_SECONDS


class Contender(Protocol):
    """A model that hears."""

    measured: ModelMeasured

    @property
    def identity(self) -> dict[str, Any]:
        """All of it that what it hears depends on."""
        ...

    def knows(self, way: Way) -> bool:
        """Whether it can decode so."""
        ...

    def hear(
        self,
        utterances: Sequence[Utterance],
        way: Way,
        shelf: Shelf,
        change: Change | None,
        advance: Callable[[float], None],
    ) -> Listened:
        """Every utterance, or why not."""
        ...


class Own:
    """A checkpoint in our engine."""

    def __init__(
        self, name: str, source: str, role: str, device: str, dtype: torch.dtype, true_length: bool, int8: bool = False
    ) -> None:
        self.checkpoint: Checkpoint = load_checkpoint(source)
        self._device, self._dtype, self._true_length, self._int8 = device, dtype, true_length, int8
        self._recogniser: Recogniser | None = None
        dims, counted = self.checkpoint.dims, self.checkpoint.parameters
        self.measured = ModelMeasured(
            name=name,
            source=source,
            role=role,
            sha256=self.checkpoint.sha256,
            parameters=counted.total,
            parameters_encoder=counted.encoder,
            parameters_decoder=counted.decoder,
            parameters_embedding=counted.embedding,
            encoder_layers=dims.encoder_layers,
            decoder_layers=dims.decoder_layers,
            dtype="int8" if int8 else str(dtype).removeprefix("torch."),
            device=device,
        )

    @property
    def recogniser(self) -> Recogniser:
        """Made when it is first needed."""
        if self._recogniser is None:
            self._recogniser = self.assisted_by(None)
        return self._recogniser

    def assisted_by(self, draft: Checkpoint | None) -> Recogniser:
        """A recogniser of the same kind with a draft. Raises `SettingsError` for one with another vocabulary."""
        return Recogniser(
            self.checkpoint,
            device=self._device,
            dtype=self._dtype,
            true_length=self._true_length,
            int8=self._int8,
            assistant=draft,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See `Contender`."""
        return {
            "weights": self.checkpoint.sha256,
            "tokenizer": hashlib.sha256(self.checkpoint.tokenizer_json).hexdigest(),
            "generation": repr(self.checkpoint.generation),
            "prompts": self.checkpoint.metadata.get("trained_with_prompts"),
            "timestamps": self.checkpoint.metadata.get("trained_with_timestamps"),
            "dtype": self.measured.dtype,
            "device": self._device,
            "true_length": self._true_length,
        }

    def knows(self, way: Way) -> bool:
        """See `Contender`."""
        return True

    def hear(
        self,
        utterances: Sequence[Utterance],
        way: Way,
        shelf: Shelf,
        change: Change | None,
        advance: Callable[[float], None],
    ) -> Listened:
        """See `Contender`. Raises `SettingsError` for a language that the model does not know."""
        for language in {utterance.language for utterance in utterances}:
            self.recogniser.known_language(language)
        shelf.credited = 0.0
        encoder = f"{self.checkpoint.encoder_sha256} {self.measured.dtype}"  # another type hears other states
        begun = time.perf_counter()
        heard = decode_utterances(
            self.recogniser,
            utterances,
            batch_size=way.batch_size,
            advance=advance,
            encode=lambda batch, sounds: shelf.encode(self.recogniser, encoder, batch, sounds),
            change=change,
            options=way.options,
        )
        return Listened(heard.texts, time.perf_counter() - begun + shelf.credited, heard.skipped)


class Other:
    """A checkpoint in an engine that is not ours. Long recordings it hears in its own way, which is taken as
    `sequential`."""

    def __init__(
        self, name: str, source: str, role: str, engine_name: str, device: str, dtype: str, cache: Path
    ) -> None:
        self._engine = engine(engine_name, source, cache, device=device, dtype=dtype)
        about = self._engine.about
        self.measured = ModelMeasured(
            name=name,
            source=source,
            engine=engine_name,
            role=role,
            sha256=about.sha256,
            encoder_layers=about.dims.encoder_layers,
            decoder_layers=about.dims.decoder_layers,
            dtype=self._engine.dtype,
            device=self._engine.device,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See `Contender`."""
        one, about = self._engine, self._engine.about
        return {
            "weights": about.sha256,
            "suppress": about.suppress,
            "language": about.language,
            "timestamps": about.timestamps,
            "engine": one.name,
            "engine_version": one.version,
            "dtype": one.dtype,
            "device": one.device,
        }

    def knows(self, way: Way) -> bool:
        """See `Contender`."""
        return way.decoding in ("short", "sequential") and not way.chunk_length

    def hear(
        self,
        utterances: Sequence[Utterance],
        way: Way,
        shelf: Shelf,
        change: Change | None,
        advance: Callable[[float], None],
    ) -> Listened:
        """See `Contender`. Utterances of like length are handed over together; those over 30 s are recordings to it."""
        texts: dict[str, str] = {}
        skipped: list[Skipped] = []
        seconds = 0.0
        ordered = sorted(utterances, key=lambda one: -one.audio.duration)
        for at in range(0, len(ordered), way.batch_size):
            batch, sounds = [], []
            begun = time.perf_counter()  # reading counts, as in ours
            for one in ordered[at : at + way.batch_size]:
                try:
                    sound = load_audio(one.audio.path, one.audio.start, one.audio.duration)
                except AudioError as error:
                    skipped.append(Skipped(f"{one.corpus}/{one.id}", str(error)))
                    continue
                batch.append(one)
                sounds.append(sound if change is None else change(one, sound))
            for long in (False, True):
                rows = [at for at, one in enumerate(batch) if long == (way.decoding != "short" or over(one))]
                languages = [batch[at].language for at in rows]
                heard = self._engine.transcribe([sounds[at] for at in rows], languages, long=long) if rows else []
                texts |= {batch[at].id: text for at, text in zip(rows, heard, strict=True)}
            seconds += time.perf_counter() - begun
            advance(sum(one.audio.duration for one in batch))
        return Listened(texts, seconds, tuple(skipped))
