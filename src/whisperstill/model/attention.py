"""Self-attention and cross-attention with fused projections.

Whisper's keys have no bias, so the key part of a fused bias must stay zero. Its true gradient is zero, as a constant
added to every key shifts all scores of a query alike. Rounding leaves a residue, however, which Adam would scale up to
full-sized steps. `FusedLinear` therefore detaches that part from the gradient.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whisperstill.model.linear import Linear, linear

MAX_QUERIES_PER_TILE = 512
"""Queries processed at once in `matmul_attention`, so that their scores fit the CPU cache."""

Heads = Float[Tensor, "batch heads tokens head_dim"]
Keys = Float[Tensor, "batch heads keys head_dim"]
"""Keys or values."""
PackedKeys = Float[Tensor, "sequences heads keys head_dim"]
Packed = Float[Tensor, "1 heads tokens head_dim"]
"""Queries or outputs of sequences that are concatenated along tokens."""


class FusedLinear(Linear):
    """Linear layer whose outputs `key_start ... key_stop - 1`, the keys, have a bias of zero that is not trained."""

    def __init__(self, in_features: int, out_features: int, key_start: int, key_stop: int) -> None:
        super().__init__(in_features, out_features)
        self._key_range = (key_start, key_stop)
        with torch.no_grad():
            self.bias[key_start:key_stop] = 0

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        bias: Tensor = self.bias
        if bias.requires_grad and torch.is_grad_enabled():
            key_start, key_stop = self._key_range
            bias = torch.cat((bias[:key_start], bias[key_start:key_stop].detach(), bias[key_stop:]))
        return linear(input, self.weight, bias)


def split_heads(x: Float[Tensor, "batch tokens width"], heads: int) -> Heads:
    """`[batch, tokens, width]` -> `[batch, heads, tokens, head_dim]`, as a view."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def merge_heads(x: Heads) -> Float[Tensor, "batch tokens width"]:
    """The inverse of `split_heads`."""
    batch, heads, tokens, head_dim = x.shape
    return x.transpose(1, 2).reshape(batch, tokens, heads * head_dim)


def attention(
    query: Heads, key: Keys, value: Keys, mask: Bool[Tensor, "batch 1 tokens keys"] | None = None, causal: bool = False
) -> Heads:
    """Scaled dot-product attention, by the fastest kernel for these tensors."""
    unmasked = mask is None and not causal
    if unmasked and query.device.type == "cpu" and query.dtype == torch.bfloat16 and not query.requires_grad:
        return matmul_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)


def packed_attention(query: Packed, key: PackedKeys, value: PackedKeys, lengths: Sequence[int], causal: bool) -> Packed:
    """Attention of packed sequences (concatenated along tokens), each to its own keys.

    `causal`: self-attention; keys are packed as the queries are, and each token attends to its sequence up to itself.
    Otherwise cross-attention; every token of sequence i attends to all of `key[i]`.
    """
    # 1. Accelerators: one padded batch, as few large kernels are fastest.
    if query.device.type != "cpu":
        return _padded_attention(query, key, value, lengths, causal)
    # 2. CPU: one sequence after the other, without padding.
    sizes = list(lengths)
    keys = torch.split(key, sizes, 2) if causal else torch.split(key, 1)
    values = torch.split(value, sizes, 2) if causal else torch.split(value, 1)
    queries = torch.split(query, sizes, 2)
    return torch.cat([attention(*qkv, causal=causal) for qkv in zip(queries, keys, values, strict=True)], dim=2)


def _padded_attention(
    query: Packed, key: PackedKeys, value: PackedKeys, lengths: Sequence[int], causal: bool
) -> Packed:

    def pad(x: Tensor) -> Tensor:
        sequences = [sequence[0].transpose(0, 1) for sequence in torch.split(x, list(lengths), 2)]
        return nn.utils.rnn.pad_sequence(sequences, batch_first=True).transpose(1, 2)

    attended = attention(pad(query), *((pad(key), pad(value)) if causal else (key, value)), causal=causal)
    return torch.cat([row[:, :length] for row, length in zip(attended, lengths, strict=True)], dim=1)[None]


def matmul_attention(query: Heads, key: Keys, value: Keys) -> Heads:
    """Attention without a mask by two matrix products, for bfloat16 on CPUs.

    PyTorch's fused kernel (2.13) takes three times as long for one query, and more than twice as long for the 1500 of
    an encoder. Scores are rounded to bfloat16, an error of 1 % instead of 0.2 %. The KL divergence of whisper-base from
    float32 does not change (5e-4 per token), as other rounding dominates.
    """
    scaled, keys = query * query.shape[-1] ** -0.5, key.transpose(2, 3)
    outputs = [(tile @ keys).softmax(-1) @ value for tile in scaled.split(MAX_QUERIES_PER_TILE, dim=2)]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


class SelfAttention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = FusedLinear(width, 3 * width, width, 2 * width)
        self.out = Linear(width, width)

    def project(self, x: Float[Tensor, "batch tokens width"]) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values of a block of tokens."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)

    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        mask: Bool[Tensor, "batch 1 tokens keys"] | None = None,
        causal: bool = False,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Attention and output projection; with `lengths`, causal attention of packed sequences."""
        if lengths is None:
            context = attention(query, key, value, mask, causal)
        else:
            context = packed_attention(query, key, value, lengths, causal=True)
        output: Tensor = self.out(merge_heads(context))
        return output


class CrossAttention(nn.Module):
    """Attention of the decoder to encoder states, whose keys and values are computed once per window."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width)
        self.kv = FusedLinear(width, 2 * width, 0, width)
        self.out = Linear(width, width)

    def project(self, encoder_states: Float[Tensor, "batch positions width"]) -> tuple[Keys, Keys]:
        """Keys and values of encoder states."""
        key, value = self.kv(encoder_states).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def attend(
        self, x: Float[Tensor, "rows tokens width"], key: Keys, value: Keys, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows tokens width"]:
        """Attention and output projection; with `lengths`, of packed sequences."""
        query = split_heads(self.query(x), self.heads)
        if lengths is None:
            context = attention(query, key, value)
        else:
            context = packed_attention(query, key, value, lengths, causal=False)
        output: Tensor = self.out(merge_heads(context))
        return output

    def mean_attention(
        self,
        x: Float[Tensor, "1 tokens width"],
        key: Float[Tensor, "sequences heads positions head_dim"],
        lengths: Sequence[int],
    ) -> Float[Tensor, "tokens positions"]:
        """Attention weights over positions for each token of packed sequences, averaged over heads."""
        query = split_heads(self.query(x), self.heads) * key.shape[-1] ** -0.5
        sequences = zip(torch.split(query[0], list(lengths), 1), key, strict=True)
        return torch.cat([(queries @ keys.transpose(1, 2)).float().softmax(-1).mean(0) for queries, keys in sequences])

    def scores(
        self,
        x: Float[Tensor, "batch tokens width"],
        key: Float[Tensor, "batch heads positions head_dim"],
        heads: Sequence[int],
    ) -> Float[Tensor, "batch selected_heads tokens positions"]:
        """Scaled float32 scores of these heads, before the softmax. Raises `ValueError` for unknown heads."""
        if not all(0 <= head < self.heads for head in heads):
            raise ValueError(f"expected heads 0 to {self.heads - 1}, got {max(heads)}")
        head_indices = list(heads)
        query = split_heads(self.query(x), self.heads)[:, head_indices].float() * key.shape[-1] ** -0.5
        scores: Tensor = query @ key[:, head_indices].float().transpose(2, 3)
        return scores


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = Linear(width, 4 * width)
        self.down = Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        y: Tensor = self.down(F.gelu(self.up(x)))
        return y
