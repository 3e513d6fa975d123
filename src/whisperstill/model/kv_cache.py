"""KV caches of the decoder: keys and values of past tokens (self-attention) and of the window (cross-attention).

`PrefillCache` is for sequences from position 0: prompts, teacher forcing and training. `StaticKVCache` has preallocated
memory and a position of its own for every row: single steps and blocks of speculative decoding. Rejected tokens need no
roll-back: the row does not advance, and the next block overwrites them.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.model.attention import Keys

Block = Float[Tensor, "batch heads block head_dim"]


class PrefillCache:
    """Sequences from position 0; supports gradients. `StaticKVCache` has its methods, and copies what it stores."""

    def __init__(self, cross_kv: Sequence[tuple[Keys, Keys]]) -> None:
        self._cross_kv = cross_kv
        self.self_kv: list[tuple[Block, Block]] = []
        """Self-attention keys and values of each layer."""

    def cross_kv(self, layer: int) -> tuple[Keys, Keys]:
        """Cross-attention keys and values of a layer, `[batch, heads, positions, head_dim]`."""
        return self._cross_kv[layer]

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """Store the keys and values of a block, which attends to them alone."""
        self.self_kv.append((key, value))
        return key, value

    def prepare_block(self, position: Int[Tensor, "batch"], block_length: int) -> tuple[None, bool]:
        """Prepare for a block that starts at `position`; return its mask, and whether attention is plain causal."""
        return None, block_length > 1


class StaticKVCache:
    """Buffers of `[max_batch_size, heads, capacity, head_dim]` per layer; the first `num_rows` rows are in use.

    `extend` writes the block of a row to `position[row] ... position[row] + block_length - 1`, and the mask lets its
    query i attend to keys `<= position[row] + i`. Keys beyond are stale and masked.
    """

    def __init__(
        self,
        num_layers: int,
        cross_kv_shape: tuple[int, int, int, int],
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        fixed_shapes: bool = False,
    ) -> None:
        """`cross_kv_shape` is `max_batch_size, heads, positions, head_dim`.

        With `fixed_shapes` every block attends to all `capacity` keys (with a mask), so that shapes never change.
        """
        max_batch_size, heads, _, head_dim = cross_kv_shape

        def allocate_kv(*shape: int) -> tuple[Tensor, Tensor]:
            # Zeros, because NaN passes through a mask. On a CPU, unused pages take no memory.
            return torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)

        self._cross_kv = [allocate_kv(*cross_kv_shape) for _ in range(num_layers)]
        self._self_kv = [allocate_kv(max_batch_size, heads, capacity, head_dim) for _ in range(num_layers)]
        self.max_batch_size, self.capacity, self.num_rows = max_batch_size, capacity, 0
        self._fixed_shapes = fixed_shapes
        self._key_end = 0
        self._write_positions: Tensor | int = 0

    def cross_kv(self, layer: int) -> tuple[Keys, Keys]:
        """See `PrefillCache`."""
        key, value = self._cross_kv[layer]
        return key[: self.num_rows], value[: self.num_rows]

    def prepare_block(
        self, position: Int[Tensor, "batch"], block_length: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """See `PrefillCache`. Raises `ValueError` if the block exceeds the capacity."""
        min_position, max_position = (int(bound) for bound in torch.aminmax(position))
        if max_position + block_length > self.capacity:
            raise ValueError(f"expected a block within {self.capacity} tokens, got {block_length} from {max_position}")
        # 1. Keys to attend to, and where each row's block is written.
        self._key_end = self.capacity if self._fixed_shapes else max_position + block_length
        offsets = torch.arange(block_length, device=position.device)
        self._write_positions = (position[:, None] + offsets)[:, None, :, None]
        # 2. All rows at one position: a slice replaces the index, and often no mask is needed.
        if min_position == max_position and not self._fixed_shapes:
            self._write_positions = min_position
            if block_length == 1:
                return None, False
            if min_position == 0:
                return None, True
        # 3. Otherwise mask the keys beyond each query.
        keys = torch.arange(self._key_end, device=position.device)
        return (keys <= (position[:, None] + offsets)[:, :, None])[:, None], False

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `PrefillCache`."""
        keys, values = (buffer[: self.num_rows] for buffer in self._self_kv[layer])
        if isinstance(self._write_positions, int):
            stop = self._write_positions + key.shape[2]
            keys[:, :, self._write_positions : stop] = key
            values[:, :, self._write_positions : stop] = value
        else:
            index = self._write_positions.expand_as(key)
            keys.scatter_(2, index, key)
            values.scatter_(2, index, value)
        return keys[:, :, : self._key_end], values[:, :, : self._key_end]

    def insert_rows(self, rows: list[int], prefill_cache: PrefillCache) -> None:
        """Copy the windows and prompts of a prefill into these rows, which may extend the rows in use.

        Raises `ValueError` for rows beyond `max_batch_size`, and if they leave a gap behind the rows in use.
        """
        # 1. Extend the rows in use.
        num_rows = max(rows) + 1
        if num_rows > self.max_batch_size or not set(range(self.num_rows, num_rows)) <= set(rows):
            raise ValueError(f"expected rows after {self.num_rows} of {self.max_batch_size} in use, got {sorted(rows)}")
        self.num_rows = max(self.num_rows, num_rows)
        # 2. Cross-attention keys and values.
        for layer, buffers in enumerate(self._cross_kv):
            for target, source in zip(buffers, prefill_cache.cross_kv(layer), strict=True):
                target[rows] = source
        # 3. Self-attention keys and values of the prompt, if there are any.
        for buffers, block_kv in zip(self._self_kv, prefill_cache.self_kv, strict=False):
            for target, source in zip(buffers, block_kv, strict=True):
                target[rows, :, : source.shape[2]] = source

    def keep_rows(self, rows: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
        """Drop all other rows, and move these to the front; return the old index of each new row.

        Little is copied and nothing allocated.
        """
        # 1. Rows below the new number stay; those above it fill the gaps.
        self.num_rows = len(rows)
        order = torch.arange(self.num_rows, device=rows.device)
        gaps = order[~torch.isin(order, rows)]
        order[gaps] = rows[rows >= self.num_rows]
        # 2. Move their keys and values.
        if len(gaps):
            for layer_buffers in (*self._cross_kv, *self._self_kv):
                for buffer in layer_buffers:
                    buffer[gaps] = buffer[order[gaps]]
        return order

    def reorder_rows(self, order: Int[Tensor, "rows"]) -> None:
        """Row i takes over the past tokens of row `order[i]`, of the same window: for beam search."""
        self.num_rows = len(order)
        for layer_buffers in self._self_kv:
            for buffer in layer_buffers:
                buffer[: self.num_rows, :, : self._key_end] = buffer[order, :, : self._key_end]


KVCache: TypeAlias = PrefillCache | StaticKVCache
