"""Interface of all engines: a model that transcribes waveforms, and its metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.decode.generate.language_detection import resolve_language
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims
from whisperstill.text.vocabulary import Vocabulary

Waveform: TypeAlias = Float32[np.ndarray, "_"]
"""16 kHz mono samples in [-1, 1], of any length."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A checkpoint without weights."""

    source: str
    """Model name or path, for display."""
    sha256: str
    """Hash of the weights (`Checkpoint.sha256`); of the file for ggml."""
    dims: Dims
    suppress_tokens: tuple[int, ...] = ()
    """Suppressed tokens of the checkpoint."""
    language: str | None = None
    """Default language of a multilingual model; None: detected."""
    timestamps: bool = True
    """Whether the model predicts timestamps; False for a student that was trained without them."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ModelDescription":
        """The metadata of a checkpoint."""
        config, timestamps = checkpoint.generation_config, checkpoint.metadata.get("trained_with_timestamps")
        source, sha256, dims = checkpoint.source, checkpoint.sha256, checkpoint.dims
        return cls(source, sha256, dims, config.suppress_tokens, config.language, timestamps is not False)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_size(self.dims.vocab_size)

    def resolve_language(self, requested: str | None) -> str | None:
        """Language code to decode with, None to detect it. Raises `SettingsError` for an unsupported language."""
        return resolve_language(requested, self.language, self.vocabulary, self.source)


@runtime_checkable
class ExternalEngine(Protocol):
    """A loaded model; created by `engines.load_engine`."""

    name: str
    """One of `engines.ENGINE_NAMES`."""
    version: str
    """Version of the library."""
    device: str
    """Device: `cpu` or `cuda`."""
    dtype: str
    """Compute type: `float32`, `float16`, `bfloat16`, `int8`, or a ggml quantization such as `q5_0`."""
    description: ModelDescription

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """The stripped transcript of each waveform.

        A language is a code, an English name, or None: the checkpoint's default, otherwise detected by the engine.
        Without `long_form` each waveform is one window of at most 30 s (the rest is ignored), batched if the engine
        can. With `long_form` it may have any length and is split by the engine. Raises `SettingsError` for a language
        that the model does not support.
        """
