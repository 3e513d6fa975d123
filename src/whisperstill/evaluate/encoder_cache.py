"""Encoder states of a corpus, kept while models that share an encoder are scored on it.

A student's encoder is its teacher's: comparing the two would otherwise run the same encoder twice over the same
windows, which is most of the work. The time the encoder took is remembered, so that every model is charged for it.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.records import Utterance

MAX_CACHE_BYTES = 4 * 2**30
"""Most bytes kept; what does not fit is computed again."""


class EncoderCache:
    """States by encoder and utterances. With `shared` False nothing is kept."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._entries: dict[tuple[str, ...], tuple[Tensor, float]] = {}
        self._bytes = 0
        self.saved_seconds = 0.0
        """Seconds of encoding that were saved since it was last set to 0."""

    def encode(
        self,
        model: WhisperModel,
        encoder_key: str,
        utterances: Sequence[Utterance],
        waveforms: Float[Tensor, "batch samples"],
    ) -> Float[Tensor, "batch positions width"]:
        """States of these windows: from the cache, else computed and put there. `encoder_key` is its weights' hash."""
        padding_mode = "padded" if model.trimmed_encoder is None else "trimmed"
        key = (encoder_key, padding_mode, *(utterance.id for utterance in utterances))
        if key in self._entries:
            encoder_states, seconds = self._entries[key]
            self.saved_seconds += seconds
            return encoder_states
        start_time = time.perf_counter()
        encoder_states = model.encode(waveforms)
        size = encoder_states.numel() * encoder_states.element_size()
        if self._shared and self._bytes + size <= MAX_CACHE_BYTES:
            if encoder_states.device.type == "cuda":
                torch.cuda.synchronize()
            self._entries[key] = (encoder_states, time.perf_counter() - start_time)
            self._bytes += size
        return encoder_states
