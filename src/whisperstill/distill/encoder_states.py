"""Encoder states of training windows: stored, computed online, or of augmented audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from whisperstill.audio.mel import log_mel
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.distill.dataset import TrainingExample
from whisperstill.label.store import LabelStore
from whisperstill.model.whisper import Whisper


@dataclass(frozen=True, slots=True)
class WindowStates:
    """Encoder states of a window, on the CPU."""

    states: Tensor
    """`[positions, width]`."""
    augmented_hidden: Tensor | None = None
    """The teacher's last hidden states `[steps, width]` for augmented audio; None: the store holds them."""
    encoded: bool = False
    """Whether the encoder ran for them."""


@runtime_checkable
class EncoderStateSource(Protocol):
    """Where the encoder states of a batch come from."""

    runs_encoder: bool
    """Whether `load` may run an encoder."""

    def load(self, examples: Sequence[TrainingExample], epoch: int) -> list[WindowStates]:
        """The states of each example in this epoch."""
        ...


class StoredStates:
    """Encoder states from the label store."""

    runs_encoder = False

    def __init__(self, store: LabelStore) -> None:
        self._store = store

    def load(self, examples: Sequence[TrainingExample], epoch: int) -> list[WindowStates]:
        """The stored states, the same in every epoch. Raises `StoreError` if there are none."""
        return [WindowStates(self._store.read_encoder_states(example.label)) for example in examples]


class OnlineStates:
    """Encoder states computed from the audio, by the encoder of `network`."""

    runs_encoder = True

    def __init__(self, network: Whisper) -> None:
        self._network = network

    @torch.no_grad()
    def load(self, examples: Sequence[TrainingExample], epoch: int) -> list[WindowStates]:
        """The states, the same in every epoch. Raises `AudioError` if the audio is gone."""
        if not examples:
            return []
        waveforms = torch.stack([torch.from_numpy(load_window_waveform(example.label.window)) for example in examples])
        mel = log_mel(waveforms.to(self._network.device), self._network.dims.mels)
        return [WindowStates(self._network.encoder(window[None])[0].cpu(), encoded=True) for window in mel]


def to_same_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in their dtype, or in float32 where dtypes differ."""
    dtype = tensors[0].dtype if all(tensor.dtype == tensors[0].dtype for tensor in tensors) else torch.float32
    return [tensor.to(dtype) for tensor in tensors]
