"""What every engine is to those who measure: a model that turns waveforms into texts."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.evaluate.engines.model_description import ModelDescription

Waveform: TypeAlias = Float32[np.ndarray, "_"]
"""16 kHz mono, full scale 1; each of its own length."""


@runtime_checkable
class ExternalEngine(Protocol):
    """A model in an engine; make it with `engines.load_engine`."""

    @property
    def name(self) -> str:
        """One of `engines.ENGINE_NAMES`."""

    @property
    def version(self) -> str:
        """Of its library."""

    @property
    def device(self) -> str:
        """Where it computes: `cpu`, `cuda`."""

    @property
    def dtype(self) -> str:
        """What it computes in, as torch calls it: `float32`, `float16`, `bfloat16`; or `int8`, `q5_0`, ..."""

    @property
    def description(self) -> ModelDescription:
        """Which model this is."""

    @property
    def num_tokens(self) -> int | None:
        """Tokens that were heard so far, special ones not counted; None where the library does not say."""

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """The text of each waveform, in order, without space at the ends.

        Where a language (code or English name) is None, it is the checkpoint's own, else detected by the engine. Not
        `long_form`: each is one window, of which the engine hears 30 s, and those it can it decodes together.
        `long_form`: any length, in the engine's own way. Raises `SettingsError` for a language that the model does not
        know.
        """
