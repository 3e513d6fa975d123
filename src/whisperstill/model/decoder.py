"""Whisper's decoder: one call for prefill, greedy steps, verification of a block and teacher forcing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from whisperstill.model.attention import CrossAttention, Mlp, SelfAttention
from whisperstill.model.cache import Beginning, Forced, Keys, Memory, Slots
from whisperstill.model.dims import Dims
from whisperstill.model.int8 import Int8Linear
from whisperstill.model.output import OutputLayer


@dataclass
class Inside:
    """What `Decoder.packed` is to tell of its way through the layers."""

    looked_at: frozenset[int] = frozenset()
    """Layers whose cross-attention is wanted."""
    outputs: list[Float[Tensor, "tokens width"]] = field(default_factory=list)
    """Of every layer, before any norm."""
    looks: dict[int, Float[Tensor, "tokens positions"]] = field(default_factory=dict)
    """Cross-attention of layers, mean over their heads."""


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the window, MLP."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dims.width)
        self.attention = SelfAttention(dims.width, dims.decoder_heads)
        self.cross_norm = nn.LayerNorm(dims.width)
        self.cross = CrossAttention(dims.width, dims.decoder_heads)
        self.mlp_norm = nn.LayerNorm(dims.width)
        self.mlp = Mlp(dims.width)


class Decoder(nn.Module):
    """Token embedding (tied to the output layer), learned positions, layers, a final norm."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.embedding = nn.Embedding(dims.vocab, dims.width)
        self.positions = nn.Parameter(torch.zeros(dims.tokens, dims.width))
        self.layers = nn.ModuleList(DecoderLayer(dims) for _ in range(dims.decoder_layers))
        self.norm = nn.LayerNorm(dims.width)
        self.dropout = 0.0
        """Share of each residual branch dropped in training (`module.training`); 0 as in Whisper."""
        self.int8 = False
        """Whether products are of 8-bit integers (see `model.int8`)."""
        self.by_row = False
        """Whether every row is then scaled on its own."""
        self._whole_packed: Int8Linear | None = None

    @property
    def _stack(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))

    def project(self, states: Float[Tensor, "batch positions width"]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a window for every layer, `[batch, heads, positions, head_dim]` each."""
        return [layer.cross.project(states) for layer in self._stack]

    def forced(self, states: Float[Tensor, "batch positions width"]) -> Forced:
        """Memory for teacher forcing."""
        return Forced(self.project(states))

    def beginning(self, states: Float[Tensor, "batch positions width"]) -> Beginning:
        """Memory for what stands before a transcript."""
        return Beginning(self.project(states))

    def slots(self, size: int, positions: int, capacity: int, whole: bool = False) -> Slots:
        """Static slots for `size` windows of `positions` encoder states and `capacity` tokens each (see `Slots`)."""
        heads, width = self._stack[0].attention.heads, self.positions.shape[1]
        window = (size, heads, positions, width // heads)
        return Slots(len(self._stack), window, capacity, self.positions.dtype, self.positions.device, whole)

    def forward(
        self, tokens: Int[Tensor, "batch block"], position: Int[Tensor, "batch"], memory: Memory
    ) -> Float[Tensor, "batch block width"]:
        """Normalised last hidden states of a block of tokens per row, the first at `position[row]`.

        Multiply with the embedding (`logits`) for the distribution of the token that follows each. Tokens beyond the
        last position, which a block may hold and nobody will accept, stand at the last one.
        """
        block = tokens.shape[1]
        mask, causal = memory.begin(position, block)
        at = (position[:, None] + torch.arange(block, device=position.device)).clamp(max=len(self.positions) - 1)
        x = self.embedding(tokens) + self.positions[at]
        for index, layer in enumerate(self._stack):
            x = self._look_back(index, layer, x, memory, mask, causal)
            x = self._look_at_window(layer, x, *memory.cross(index))
        hidden: Tensor = self.norm(x)
        return hidden

    def packed(
        self,
        tokens: Int[Tensor, "tokens"],
        lengths: Sequence[int],
        states: Float[Tensor, "sequences positions width"],
        inside: Inside | None = None,
    ) -> Float[Tensor, "tokens width"]:
        """`forward` with teacher forcing, of whole sequences one behind the other: nothing is padded.

        Row i is the normalised last hidden state after `tokens[i]`; sequence j holds `lengths[j]` tokens and hears
        `states[j]`. `inside` is filled where it is given.
        """
        at = torch.cat([torch.arange(length, device=tokens.device) for length in lengths])
        x = (self.embedding(tokens) + self.positions[at])[None]
        memory = Forced(self.project(states))
        for index, layer in enumerate(self._stack):
            x = self._look_back(index, layer, x, memory, None, True, lengths)
            if inside is not None and index in inside.looked_at:
                inside.looks[index] = layer.cross.looks(layer.cross_norm(x), memory.cross(index)[0], lengths)
            x = self._look_at_window(layer, x, *memory.cross(index), lengths)
            if inside is not None:
                inside.outputs.append(x[0])
        hidden: Tensor = self.norm(x)[0]
        return hidden

    def watch(
        self,
        tokens: Int[Tensor, "batch tokens"],
        states: Float[Tensor, "batch positions width"],
        heads: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "batch heads tokens positions"]:
        """Cross-attention scores (logits, float32) of these (layer, head) pairs, in their order, along given tokens.

        Row i of a head is where it looks while the token after `tokens[i]` is predicted. The layers run as in
        `forward` with `Forced` memory, no further than to the last one watched. Raises `ValueError` for a layer or
        a head that the network does not have.
        """
        found: dict[tuple[int, int], Tensor] = {}
        last = max(layer for layer, _ in heads)
        if last >= len(self.layers):
            raise ValueError(f"the decoder has layers 0 to {len(self.layers) - 1}, got {last}")
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        memory = Forced([])
        mask, causal = memory.begin(tokens.new_zeros(len(tokens)), tokens.shape[1])
        for index, layer in enumerate(self._stack[: last + 1]):
            x = self._look_back(index, layer, x, memory, mask, causal)
            key, value = layer.cross.project(states)
            wanted = sorted({head for at, head in heads if at == index})
            if wanted:
                scores = layer.cross.scores(layer.cross_norm(x), key, wanted)
                found |= {(index, head): one for head, one in zip(wanted, scores.unbind(1), strict=True)}
            if index < last:
                x = self._look_at_window(layer, x, key, value)
        return torch.stack([found[pair] for pair in heads], 1)

    def _look_back(
        self,
        index: int,
        layer: DecoderLayer,
        x: Float[Tensor, "batch block width"],
        memory: Memory,
        mask: Bool[Tensor, "batch 1 block keys"] | None,
        causal: bool,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch block width"]:
        query, key, value = layer.attention.project(layer.attention_norm(x))
        key, value = memory.extend(index, key, value)
        return x + self._drop(layer.attention.attend(query, key, value, mask, causal, lengths))

    def _look_at_window(
        self,
        layer: DecoderLayer,
        x: Float[Tensor, "rows block width"],
        key: Keys,
        value: Keys,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "rows block width"]:
        x = x + self._drop(layer.cross.attend(layer.cross_norm(x), key, value, lengths))
        return x + self._drop(layer.mlp(layer.mlp_norm(x)))

    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        """Float32 logits of hidden states."""
        return F.linear(hidden, self.embedding.weight).float()

    def output(self, rows: int, listed: Int[Tensor, "listed"] | None = None) -> OutputLayer:
        """`logits` for the steps of at most `rows` rows, in memory that is kept; of the `listed` tokens only."""
        weight = self.embedding.weight if listed is None else self.embedding.weight[listed]
        return OutputLayer(weight, rows, self._packed(weight, listed is None) if self.int8 else None)

    def _packed(self, weight: Float[Tensor, "vocab width"], whole: bool) -> Int8Linear:
        """The output layer in 8-bit integers; that of the whole vocabulary is made once."""
        if not whole:
            return Int8Linear(weight, None, self.by_row)
        if self._whole_packed is None:
            self._whole_packed = Int8Linear(weight, None, self.by_row)
        return self._whole_packed

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x
