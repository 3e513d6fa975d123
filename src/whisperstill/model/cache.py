"""What the decoder remembers of a sequence: keys and values of the tokens before, and of the window heard.

The decoder asks its memory for the keys to attend to and hands it those of the new block. Two memories exist:
`Forced` holds nothing before the block (teacher forcing, training); `Slots` are static and hold every row at a
position of its own (prefill, greedy, verification). A rejected or surplus token needs no roll-back: rows simply do
not advance, and the next block overwrites it.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Keys = Float[Tensor, "batch heads keys head_dim"]
Block = Float[Tensor, "batch heads block head_dim"]


@runtime_checkable
class Memory(Protocol):
    """What `Decoder` needs to know about the past."""

    def cross(self, layer: int) -> tuple[Keys, Keys]:
        """Keys and values of the window, `[batch, heads, positions, head_dim]`."""
        ...

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """Take a block's keys and values; give all that the block may attend to."""
        ...

    def begin(
        self, position: Int[Tensor, "batch"], block: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """Prepare for a block at these positions; give the mask, and whether plain causal attention serves."""
        ...


class Forced:
    """A whole sequence at once from position 0; nothing is kept. Carries gradients."""

    def __init__(self, cross: Sequence[tuple[Keys, Keys]]) -> None:
        self._cross = cross

    def cross(self, layer: int) -> tuple[Keys, Keys]:
        """See `Memory`."""
        return self._cross[layer]

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `Memory`."""
        return key, value

    def begin(self, position: Int[Tensor, "batch"], block: int) -> tuple[None, bool]:
        """See `Memory`."""
        return None, block > 1


class Slots:
    """Static slots `[batch, heads, capacity, head_dim]` per layer, a position per row.

    `begin` fixes where the block goes (`position[row] ... position[row] + block - 1`), `extend` writes it there,
    and the mask lets query i of a row see keys `<= position[row] + i`. What lies beyond is stale and never seen.
    """

    def __init__(self, cross: Sequence[tuple[Keys, Keys]], capacity: int) -> None:
        self._cross = [(key.contiguous(), value.contiguous()) for key, value in cross]
        like = self._cross[0][0]
        batch, heads, _, head_dim = like.shape
        shape = (batch, heads, capacity, head_dim)
        self._keys = [like.new_zeros(shape) for _ in cross]
        self._values = [like.new_zeros(shape) for _ in cross]
        self.capacity = capacity
        self._end = 0
        self._at: Tensor | int = 0

    @property
    def batch(self) -> int:
        """Number of rows."""
        return int(self._keys[0].shape[0])

    def cross(self, layer: int) -> tuple[Keys, Keys]:
        """See `Memory`."""
        return self._cross[layer]

    def begin(
        self, position: Int[Tensor, "batch"], block: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """See `Memory`. Raises `ValueError` when the block does not fit the slots."""
        low, high = (int(bound) for bound in torch.aminmax(position))
        self._end = high + block
        if self._end > self.capacity:
            raise ValueError(f"a block of {block} at position {high} does not fit {self.capacity} slots")
        if low == high:  # rows in step: a slice serves
            self._at = low
            if block == 1:
                return None, False
            if low == 0:
                return None, True
        else:
            self._at = (position[:, None] + torch.arange(block, device=position.device))[:, None, :, None]
        queries = position[:, None] + torch.arange(block, device=position.device)
        keys = torch.arange(self._end, device=position.device)
        return (keys <= queries[:, :, None])[:, None], False

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `Memory`."""
        keys, values = self._keys[layer], self._values[layer]
        if isinstance(self._at, int):
            stop = self._at + key.shape[2]
            keys[:, :, self._at : stop] = key
            values[:, :, self._at : stop] = value
        else:
            index = self._at.expand_as(key)
            keys.scatter_(2, index, key)
            values.scatter_(2, index, value)
        return keys[:, :, : self._end], values[:, :, : self._end]

    def keep(self, rows: Int[Tensor, "kept"]) -> Int[Tensor, "kept"]:
        """Drop all rows but these (finished ones cost nothing more); gives which of the old rows each slot now holds.

        Rows in front stay where they are, the others move into the gaps: little is copied, nothing allocated.
        """
        count = len(rows)
        order = torch.arange(count, device=rows.device)
        gaps = order[~torch.isin(order, rows)]
        order[gaps] = rows[rows >= count]
        self._cross = [(_moved(key, gaps, order), _moved(value, gaps, order)) for key, value in self._cross]
        self._keys = [_moved(key, gaps, order) for key in self._keys]
        self._values = [_moved(value, gaps, order) for value in self._values]
        return order

    def replace(self, rows: Int[Tensor, "fresh"], other: "Slots") -> None:
        """Give rows the windows and the past of another memory's rows: a finished row takes the next window."""
        for layer in range(len(self._keys)):
            for mine, theirs in zip(self._cross[layer], other._cross[layer], strict=True):
                mine[rows] = theirs
            self._keys[layer][rows, :, : other.capacity] = other._keys[layer]
            self._values[layer][rows, :, : other.capacity] = other._values[layer]


def _moved(
    slots: Keys, gaps: Int[Tensor, "gaps"], order: Int[Tensor, "kept"]
) -> Float[Tensor, "kept heads keys head_dim"]:
    """The first `len(order)` rows, the gaps among them filled from behind, in place."""
    if len(gaps):
        slots[gaps] = slots[order[gaps]]
    return slots[: len(order)]
