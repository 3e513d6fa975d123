"""Whisper's decoder. One `forward` does prefill, single steps, blocks of speculative decoding and teacher forcing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from whisperstill.model.attention import CrossAttention, Keys, Mlp, SelfAttention
from whisperstill.model.dims import Dims
from whisperstill.model.int8 import Int8Linear
from whisperstill.model.kv_cache import KVCache, PrefillCache, StaticKVCache
from whisperstill.model.linear import OutputLayer


@dataclass
class LayerOutputs:
    """Intermediate outputs that `Decoder.forward_packed` collects, for feature losses."""

    attention_layers: frozenset[int] = frozenset()
    """Layers whose cross-attention is collected."""
    hidden_states: list[Float[Tensor, "tokens width"]] = field(default_factory=list)
    """Outputs of every layer, before the final norm."""
    mean_attention: dict[int, Float[Tensor, "tokens positions"]] = field(default_factory=dict)
    """Cross-attention weights by layer, averaged over heads."""


class DecoderLayer(nn.Module):
    """Weights of a layer: causal self-attention, cross-attention, MLP, each with a pre-norm."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dims.width)
        self.attention = SelfAttention(dims.width, dims.decoder_heads)
        self.cross_norm = nn.LayerNorm(dims.width)
        self.cross = CrossAttention(dims.width, dims.decoder_heads)
        self.mlp_norm = nn.LayerNorm(dims.width)
        self.mlp = Mlp(dims.width)


class Decoder(nn.Module):
    """Token embedding (tied to the output layer), learned positions, transformer layers, final norm."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.embedding = nn.Embedding(dims.vocab_size, dims.width)
        self.positions = nn.Parameter(torch.zeros(dims.max_target_positions, dims.width))
        self.layers = nn.ModuleList(DecoderLayer(dims) for _ in range(dims.decoder_layers))
        self.norm = nn.LayerNorm(dims.width)
        self.dropout = 0.0
        """Dropout probability of each residual branch in training; 0 in Whisper."""
        self.int8 = False
        """Whether matrix products are 8-bit (see `model.int8`)."""
        self.per_row = False
        """Whether 8-bit products scale every row separately."""
        self._full_int8_weight: Int8Linear | None = None

    @property
    def _layer_list(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))

    def project_cross_kv(self, encoder_states: Float[Tensor, "batch positions width"]) -> list[tuple[Tensor, Tensor]]:
        """Cross-attention keys and values of every layer, each `[batch, heads, positions, head_dim]`."""
        return [layer.cross.project(encoder_states) for layer in self._layer_list]

    def prefill(self, encoder_states: Float[Tensor, "batch positions width"]) -> PrefillCache:
        """Cache for the pass over prompts, and for teacher forcing."""
        return PrefillCache(self.project_cross_kv(encoder_states))

    def static_cache(self, max_batch: int, positions: int, capacity: int, fixed_shapes: bool = False) -> StaticKVCache:
        """Cache for `max_batch` windows of `positions` encoder states and `capacity` tokens each."""
        heads, width = self._layer_list[0].attention.heads, self.positions.shape[1]
        cross_kv_shape = (max_batch, heads, positions, width // heads)
        return StaticKVCache(
            len(self._layer_list), cross_kv_shape, capacity, self.positions.dtype, self.positions.device, fixed_shapes
        )

    def forward(
        self, tokens: Int[Tensor, "batch block"], position: Int[Tensor, "batch"], cache: KVCache
    ) -> Float[Tensor, "batch block width"]:
        """Last hidden states, after the final norm, of a block of tokens per row that starts at `position[row]`.

        `logits` gives the distributions of the next tokens. Draft tokens beyond the last position, which are never
        accepted, get the embedding of the last position.
        """
        block_length = tokens.shape[1]
        mask, causal = cache.prepare_block(position, block_length)
        position_ids = position[:, None] + torch.arange(block_length, device=position.device)
        position_ids = position_ids.clamp(max=len(self.positions) - 1)
        x = self.embedding(tokens) + self.positions[position_ids]
        for index, layer in enumerate(self._layer_list):
            x = self._self_attention(index, layer, x, cache, mask, causal)
            x = self._cross_attention_and_mlp(layer, x, *cache.cross_kv(index))
        hidden: Tensor = self.norm(x)
        return hidden

    def forward_packed(
        self,
        tokens: Int[Tensor, "tokens"],
        lengths: Sequence[int],
        encoder_states: Float[Tensor, "sequences positions width"],
        layer_outputs: LayerOutputs | None = None,
    ) -> Float[Tensor, "tokens width"]:
        """Teacher forcing of sequences that are concatenated without padding.

        Returns the last hidden states of all tokens, after the final norm. Sequence i has `lengths[i]` tokens and
        cross-attends to `encoder_states[i]`. `layer_outputs` collects intermediate outputs.
        """
        position_ids = torch.cat([torch.arange(length, device=tokens.device) for length in lengths])
        x = (self.embedding(tokens) + self.positions[position_ids])[None]
        cache = self.prefill(encoder_states)
        for index, layer in enumerate(self._layer_list):
            x = self._self_attention(index, layer, x, cache, None, True, lengths)
            if layer_outputs is not None and index in layer_outputs.attention_layers:
                weights = layer.cross.mean_attention(layer.cross_norm(x), cache.cross_kv(index)[0], lengths)
                layer_outputs.mean_attention[index] = weights
            x = self._cross_attention_and_mlp(layer, x, *cache.cross_kv(index), lengths)
            if layer_outputs is not None:
                layer_outputs.hidden_states.append(x[0])
        hidden: Tensor = self.norm(x)[0]
        return hidden

    def cross_attention_scores(
        self,
        tokens: Int[Tensor, "batch tokens"],
        encoder_states: Float[Tensor, "batch positions width"],
        heads: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "batch heads tokens positions"]:
        """Cross-attention scores of (layer, head) pairs, in their order: float32, before the softmax.

        Row i of a head belongs to the prediction of the token after `tokens[i]` (teacher forcing). Layers above the
        last requested one are skipped. Raises `ValueError` for a layer or head that the network does not have.
        """
        scores_by_head: dict[tuple[int, int], Tensor] = {}
        last_layer = max(layer for layer, _ in heads)
        if last_layer >= len(self.layers):
            raise ValueError(f"expected layers 0 to {len(self.layers) - 1}, got {last_layer}")
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        cache = PrefillCache([])
        mask, causal = cache.prepare_block(tokens.new_zeros(len(tokens)), tokens.shape[1])
        for index, layer in enumerate(self._layer_list[: last_layer + 1]):
            x = self._self_attention(index, layer, x, cache, mask, causal)
            key, value = layer.cross.project(encoder_states)
            layer_heads = sorted({head for head_layer, head in heads if head_layer == index})
            if layer_heads:
                scores = layer.cross.scores(layer.cross_norm(x), key, layer_heads)
                scores_by_head |= {(index, head): row for head, row in zip(layer_heads, scores.unbind(1), strict=True)}
            if index < last_layer:
                x = self._cross_attention_and_mlp(layer, x, key, value)
        return torch.stack([scores_by_head[pair] for pair in heads], 1)

    def _self_attention(
        self,
        index: int,
        layer: DecoderLayer,
        x: Float[Tensor, "batch block width"],
        cache: KVCache,
        mask: Bool[Tensor, "batch 1 block keys"] | None,
        causal: bool,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch block width"]:
        query, key, value = layer.attention.project(layer.attention_norm(x))
        key, value = cache.extend(index, key, value)
        return x + self._apply_dropout(layer.attention.attend(query, key, value, mask, causal, lengths))

    def _cross_attention_and_mlp(
        self,
        layer: DecoderLayer,
        x: Float[Tensor, "rows block width"],
        key: Keys,
        value: Keys,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "rows block width"]:
        x = x + self._apply_dropout(layer.cross.attend(layer.cross_norm(x), key, value, lengths))
        return x + self._apply_dropout(layer.mlp(layer.mlp_norm(x)))

    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        """Float32 logits of hidden states."""
        return F.linear(hidden, self.embedding.weight).float()

    def output_layer(self, max_rows: int, token_ids: Int[Tensor, "token_ids"] | None = None) -> OutputLayer:
        """`logits` with reused buffers for at most `max_rows` rows; of `token_ids` only, if given."""
        weight = self.embedding.weight if token_ids is None else self.embedding.weight[token_ids]
        return OutputLayer(weight, max_rows, self._int8_output_weight(weight, token_ids is None) if self.int8 else None)

    def _int8_output_weight(self, weight: Float[Tensor, "vocab width"], full_vocabulary: bool) -> Int8Linear:
        """8-bit output layer; that of the full vocabulary is built once."""
        if not full_vocabulary:
            return Int8Linear(weight, None, self.per_row)
        if self._full_int8_weight is None:
            self._full_int8_weight = Int8Linear(weight, None, self.per_row)
        return self._full_int8_weight

    def _apply_dropout(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x
