"""Encoder states of a dataset, shared by models that have the same encoder.

A student's encoder is its teacher's, and encoding is most of the work: without the cache, comparing the two would run
the same encoder over the same windows twice. Each model is charged for the encoding all the same.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.records import Utterance

MAX_CACHE_BYTES = 4 * 2**30
"""Size limit of the cache; states beyond it are computed again."""


class EncoderCache:
    """States by encoder and utterances. With `shared` False nothing is stored."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._entries: dict[tuple[str, ...], tuple[Tensor, float]] = {}
        self._bytes = 0

    def encode(
        self,
        model: WhisperModel,
        encoder_key: str,
        utterances: Sequence[Utterance],
        waveforms: Float[Tensor, "batch samples"],
    ) -> tuple[Float[Tensor, "batch positions width"], float]:
        """States of a batch of windows, and the seconds of encoding that the cache saved.

        `encoder_key` identifies the encoder's weights and compute type.
        """
        padding_mode = "padded" if model.trimmed_encoder is None else "trimmed"
        key = (encoder_key, padding_mode, *(utterance.id for utterance in utterances))
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
