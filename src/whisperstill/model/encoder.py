"""Whisper's encoder: log-mel spectrogram to encoder states, one per 20 ms."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from whisperstill.model.attention import Mlp, SelfAttention
from whisperstill.model.dims import Dims


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and MLP with residual connections."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dims.width)
        self.attention = SelfAttention(dims.width, dims.encoder_heads)
        self.mlp_norm = nn.LayerNorm(dims.width)
        self.mlp = Mlp(dims.width)

    def forward(self, x: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
        x = x + self.attention.attend(*self.attention.project(self.attention_norm(x)))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class Encoder(nn.Module):
    """Two convolutions (the second has stride 2), sinusoidal positions, transformer layers, final norm."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(dims.mels, dims.width, 3, padding=1)
        self.conv2 = nn.Conv1d(dims.width, dims.width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(dims.max_source_positions, dims.width))
        self.layers = nn.ModuleList(EncoderLayer(dims) for _ in range(dims.encoder_layers))
        self.norm = nn.LayerNorm(dims.width)

    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch positions width"]:
        """Encoder states of 30 s windows, in the dtype of the weights."""
        x = self.convolve(mel).contiguous() + self.positions
        for layer in self.layers:
            x = layer(x)
        states: Tensor = self.norm(x)
        return states

    def convolve(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch positions width"]:
        """Outputs of the two convolutions, one per 20 ms."""
        x = F.gelu(self.conv1(mel.to(self.positions.dtype)))
        return F.gelu(self.conv2(x)).transpose(1, 2)
