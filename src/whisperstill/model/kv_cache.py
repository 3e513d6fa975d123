"""What the decoder remembers of a sequence: keys and values of the tokens before, and of the window heard.

The decoder asks its memory for the keys to attend to and hands it those of the new block. Three memories exist:
`NoCache` holds nothing before the block (teacher forcing, training); `PrefillCache` is the same and keeps what it was
handed (what stands before a transcript); `StaticKVCache` is static and holds every row at a position of its own (greedy
steps, verification of a draft). A rejected or surplus token needs no roll-back: rows simply do not advance, and the
next block overwrites it.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Keys = Float[Tensor, "batch heads keys head_dim"]
Block = Float[Tensor, "batch heads block head_dim"]


@runtime_checkable
class KVCache(Protocol):
    """What `Decoder` needs to know about the past."""

    def cross_kv(self, layer: int) -> tuple[Keys, Keys]:
        """Keys and values of the window, `[batch, heads, positions, head_dim]`."""
        ...

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """Take a block's keys and values; give all that the block may attend to."""
        ...

    def prepare_block(
        self, position: Int[Tensor, "batch"], block_length: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """Prepare for a block at these positions; give the mask, and whether plain causal attention serves."""
        ...


class NoCache:
    """A whole sequence at once from position 0; nothing is kept. Carries gradients."""

    def __init__(self, cross_kv: Sequence[tuple[Keys, Keys]]) -> None:
        self._cross_kv = cross_kv

    def cross_kv(self, layer: int) -> tuple[Keys, Keys]:
        """See `KVCache`."""
        return self._cross_kv[layer]

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `KVCache`."""
        return key, value

    def prepare_block(self, position: Int[Tensor, "batch"], block_length: int) -> tuple[None, bool]:
        """See `KVCache`."""
        return None, block_length > 1


class PrefillCache(NoCache):
    """A sequence from position 0 whose keys and values are kept, for `StaticKVCache.insert_rows`."""

    def __init__(self, cross_kv: Sequence[tuple[Keys, Keys]]) -> None:
        super().__init__(cross_kv)
        self.self_kv: list[tuple[Block, Block]] = []
        """Keys and values of each layer."""

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `KVCache`."""
        self.self_kv.append((key, value))
        return key, value


class StaticKVCache:
    """Static `[max_batch_size, heads, capacity, head_dim]` per layer, a position per row; the first `num_rows` in use.

    `prepare_block` fixes where the block goes (`position[row] ... position[row] + block - 1`), `extend` writes it
    there, and the mask lets query i of a row see keys `<= position[row] + i`. What lies beyond is stale and never seen.
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
        """`cross_kv_shape` is that of a layer's keys: `max_batch_size, heads, positions, head_dim`.

        With `fixed_shapes` every block attends to all of the slots (what is not yet there is masked), so that the
        shapes never change.
        """
        max_batch_size, heads, _, head_dim = cross_kv_shape

        def allocate_kv(*shape: int) -> tuple[Tensor, Tensor]:
            # Zeros, since a stale NaN would get through a mask; what is never used costs no memory on a CPU.
            return torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)

        self._cross_kv = [allocate_kv(*cross_kv_shape) for _ in range(num_layers)]
        self._self_kv = [allocate_kv(max_batch_size, heads, capacity, head_dim) for _ in range(num_layers)]
        self.max_batch_size, self.capacity, self.num_rows = max_batch_size, capacity, 0
        self._fixed_shapes = fixed_shapes
        self._key_end = 0
        self._write_positions: Tensor | int = 0

    def cross_kv(self, layer: int) -> tuple[Keys, Keys]:
        """See `KVCache`."""
        key, value = self._cross_kv[layer]
        return key[: self.num_rows], value[: self.num_rows]

    def prepare_block(
        self, position: Int[Tensor, "batch"], block_length: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """See `KVCache`. Raises `ValueError` when the block does not fit the slots."""
        min_position, max_position = (int(bound) for bound in torch.aminmax(position))
        if max_position + block_length > self.capacity:
            raise ValueError(f"a block of {block_length} at position {max_position} does not fit {self.capacity} slots")
        self._key_end = self.capacity if self._fixed_shapes else max_position + block_length
        offsets = torch.arange(block_length, device=position.device)
        self._write_positions = (position[:, None] + offsets)[:, None, :, None]
        if min_position == max_position and not self._fixed_shapes:  # rows in step: a slice serves
            self._write_positions = min_position
            if block_length == 1:
                return None, False
            if min_position == 0:
                return None, True
        keys = torch.arange(self._key_end, device=position.device)
        return (keys <= (position[:, None] + offsets)[:, :, None])[:, None], False

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `KVCache`."""
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
        """Give these rows the windows and the past of a beginning; rows beyond those in use come into use.

        Raises `ValueError` for a row that is not there, or where rows between would be in use and empty.
        """
        num_rows = max(rows) + 1
        if num_rows > self.max_batch_size or not set(range(self.num_rows, num_rows)) <= set(rows):
            raise ValueError(f"rows {sorted(rows)} do not follow the {self.num_rows} in use of {self.max_batch_size}")
        self.num_rows = max(self.num_rows, num_rows)
        for layer, buffers in enumerate(self._cross_kv):
            for target, source in zip(buffers, prefill_cache.cross_kv(layer), strict=True):
                target[rows] = source
        for buffers, block_kv in zip(self._self_kv, prefill_cache.self_kv, strict=False):  # nothing said: no past
            for target, source in zip(buffers, block_kv, strict=True):
                target[rows, :, : source.shape[2]] = source

    def keep_rows(self, rows: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
        """Drop all rows but these (finished ones cost nothing more); gives which of the old rows each slot now holds.

        Rows in front stay where they are, the others move into the gaps: little is copied, nothing allocated.
        """
        self.num_rows = len(rows)
        order = torch.arange(self.num_rows, device=rows.device)
        gaps = order[~torch.isin(order, rows)]
        order[gaps] = rows[rows >= self.num_rows]
        if len(gaps):
            for layer_buffers in (*self._cross_kv, *self._self_kv):
                for buffer in layer_buffers:
                    buffer[gaps] = buffer[order[gaps]]
        return order

    def reorder_rows(self, order: Int[Tensor, "rows"]) -> None:
        """Row i goes on with the past of row `order[i]`; both hear the same window. For the hypotheses of a beam."""
        self.num_rows = len(order)
        for layer_buffers in self._self_kv:
            for buffer in layer_buffers:
                buffer[: self.num_rows, :, : self._key_end] = buffer[order, :, : self._key_end]

    def set_num_rows(self, num_rows: int) -> None:
        """Take the first `num_rows` slots into use, whatever they hold."""
        self.num_rows = num_rows
