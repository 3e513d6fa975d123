"""Encoder states of a corpus, kept while models that share an encoder are scored on it.

A student's encoder is its teacher's: comparing the two would otherwise run the same encoder twice over the same
windows, which is most of the work. The time the encoder took is remembered, so that every model is charged for it.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.recogniser import Recogniser
from whisperstill.records import Utterance

ROOM = 4 * 2**30
"""Most bytes kept; what does not fit is computed again."""


class Shelf:
    """States by encoder and utterances. With `shared` False nothing is kept."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._kept: dict[tuple[str, ...], tuple[Tensor, float]] = {}
        self._bytes = 0
        self.credited = 0.0
        """Seconds of encoding that were saved since it was last set to 0."""

    def encode(
        self,
        recogniser: Recogniser,
        encoder: str,
        utterances: Sequence[Utterance],
        waveforms: Float[Tensor, "batch samples"],
    ) -> Float[Tensor, "batch positions width"]:
        """States of these windows: from the shelf, else computed and put there. `encoder` is its weights' hash."""
        kind = "whole" if recogniser.true_length is None else "true length"
        key = (encoder, kind, *(utterance.id for utterance in utterances))
        if key in self._kept:
            states, seconds = self._kept[key]
            self.credited += seconds
            return states
        begun = time.perf_counter()
        states = recogniser.encode(waveforms)
        size = states.numel() * states.element_size()
        if self._shared and self._bytes + size <= ROOM:
            if states.device.type == "cuda":
                torch.cuda.synchronize()
            self._kept[key] = (states, time.perf_counter() - begun)
            self._bytes += size
        return states
