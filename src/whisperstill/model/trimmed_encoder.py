"""Encoder that skips the silence at the end of a window, with cached keys and values in its place.

Whisper's windows are always 30 s: a clip of 8 s sends 22 s of digital silence through every layer. Here the positions
with sound, and `TAIL_POSITIONS` after them, attend to their own keys and to those of an all-silent window, which are
computed once. The encoder states of the remaining positions are those of the silent window.

This neglects the attention of silence to the speech before it, so encoder states are close to the exact ones, but not
equal; it is not for training. In the spectrogram silence is (loudest - 8 + 4) / 4 of its window (see `audio.mel`), so
silent windows are cached by level, and the spectrogram is shifted by at most `LEVEL_STEP / 2` to the nearest level.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.attention import Keys
from whisperstill.model.encoder import Encoder, EncoderLayer
from whisperstill.units import WINDOW_FRAMES

TAIL_POSITIONS = 50
"""Positions (20 ms) of silence after the sound that are computed, for the ends of words."""
LEVEL_STEP = 0.1
"""Distance between levels, in the spectrogram's unit of 40 dB."""
MAX_CACHED_LEVELS = 8
"""Levels cached at once; the speech of one recording has fewer."""
DYNAMIC_RANGE = 2.0
"""Difference between the loudest value of a window and silence: 8 powers of ten, divided by 4."""


@dataclass(frozen=True, slots=True)
class _SilentWindow:
    """Encoder pass over a silent window."""

    layer_kv: list[tuple[Keys, Keys]]
    """Keys and values of each layer."""
    states: Float[Tensor, "1 positions width"]


class TrimmedEncoder:
    """Runs an encoder on the part of each window with sound. Inference only."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._silence_cache: OrderedDict[float, _SilentWindow] = OrderedDict()
        self.num_computed_positions = 0
        """Encoder positions computed so far, without those of silent windows."""

    @torch.inference_mode()
    def __call__(
        self, mel: Float[Tensor, "batch mels frames"], sound_positions: Sequence[int]
    ) -> Float[Tensor, "batch positions width"]:
        """Encoder states of windows with sound in the first `sound_positions[row]` positions."""
        levels = [round(float(level) / LEVEL_STEP) for level in mel.amax((1, 2)) - DYNAMIC_RANGE]
        groups: dict[int, list[int]] = {}
        for row, level in enumerate(levels):
            # On a CPU one window at a time; on accelerators, windows of one level together.
            groups.setdefault(row if mel.device.type == "cpu" else level, []).append(row)
        states = torch.cat(
            [
                self._encode(mel[rows], max(sound_positions[row] for row in rows), levels[rows[0]] * LEVEL_STEP)
                for rows in groups.values()
            ]
        )
        order = torch.tensor([row for rows in groups.values() for row in rows], device=mel.device)
        return states[order.argsort()]

    def _encode(self, mel: Float[Tensor, "rows mels frames"], sound_positions: int, level: float) -> Tensor:
        encoder = self._encoder
        total_positions = len(encoder.positions)
        num_computed = sound_positions + TAIL_POSITIONS
        if num_computed >= total_positions:
            return encoder(mel)  # type: ignore[no-any-return]
        self.num_computed_positions += num_computed * len(mel)
        silence = self._silent_window(level, mel)
        mel = mel[..., : 2 * num_computed + 2] + (level + DYNAMIC_RANGE - mel.amax((1, 2), keepdim=True))
        x = encoder.convolve(mel)[:, :num_computed].contiguous() + encoder.positions[:num_computed]
        silent_slice = slice(num_computed, None)
        for layer, (keys, values) in zip(self._layers, silence.layer_kv, strict=True):
            query, key, value = layer.attention.project(layer.attention_norm(x))
            keys, values = (cached[:, :, silent_slice].expand(len(mel), -1, -1, -1) for cached in (keys, values))
            x = x + layer.attention.attend(query, torch.cat((key, keys), 2), torch.cat((value, values), 2))
            x = x + layer.mlp(layer.mlp_norm(x))
        return torch.cat((encoder.norm(x), silence.states[:, silent_slice].expand(len(mel), -1, -1)), 1)

    def _silent_window(self, level: float, mel: Float[Tensor, "rows mels frames"]) -> _SilentWindow:
        if level not in self._silence_cache:
            x = self._encoder.convolve(mel.new_full((1, mel.shape[1], WINDOW_FRAMES), level)).contiguous()
            x = x + self._encoder.positions
            layer_kv = []
            for layer in self._layers:
                query, key, value = layer.attention.project(layer.attention_norm(x))
                layer_kv.append((key.contiguous(), value.contiguous()))
                x = x + layer.attention.attend(query, key, value)
                x = x + layer.mlp(layer.mlp_norm(x))
            self._silence_cache[level] = _SilentWindow(layer_kv, self._encoder.norm(x))
            if len(self._silence_cache) > MAX_CACHED_LEVELS:
                self._silence_cache.popitem(last=False)
        self._silence_cache.move_to_end(level)
        return self._silence_cache[level]

    @property
    def _layers(self) -> list[EncoderLayer]:
        return cast(list[EncoderLayer], list(self._encoder.layers))
