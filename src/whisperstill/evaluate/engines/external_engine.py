"""Interface of all engines: a model that transcribes waveforms."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.evaluate.engines.model_description import ModelDescription

Waveform: TypeAlias = Float32[np.ndarray, "_"]
"""16 kHz mono samples in [-1, 1], of any length."""


@runtime_checkable
class ExternalEngine(Protocol):
    """A loaded model; created by `engines.load_engine`."""

    @property
    def name(self) -> str:
        """One of `engines.ENGINE_NAMES`."""

    @property
    def version(self) -> str:
        """Version of the library."""

    @property
    def device(self) -> str:
        """Device: `cpu` or `cuda`."""

    @property
    def dtype(self) -> str:
        """Compute type: `float32`, `float16`, `bfloat16`, `int8`, or a ggml quantization such as `q5_0`."""

    @property
    def description(self) -> ModelDescription:
        """Metadata of the model."""

    @property
    def num_tokens(self) -> int | None:
        """Text tokens generated so far, without special tokens; None if the library does not report them."""

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """The stripped transcript of each waveform.

        A language is a code, an English name, or None: the checkpoint's default, otherwise detected by the engine.
        Without `long_form` each waveform is one window of at most 30 s (the rest is ignored), batched if the engine
        can. With `long_form` it may have any length and is split by the engine. Raises `SettingsError` for a language
        that the model does not support.
        """
