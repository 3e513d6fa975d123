"""What the decoder remembers of a sequence: keys and values of the tokens before, and of the window heard.

The decoder asks its memory for the keys to attend to and hands it those of the new block. Three memories exist:
`Forced` holds nothing before the block (teacher forcing, training); `Beginning` is the same and keeps what it was
handed (what stands before a transcript); `Slots` are static and hold every row at a position of its own (greedy steps,
verification of a draft). A rejected or surplus token needs no roll-back: rows simply do not advance, and the next block
overwrites it.
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


class Beginning(Forced):
    """A sequence from position 0 whose keys and values are kept, for `Slots.put`."""

    def __init__(self, cross: Sequence[tuple[Keys, Keys]]) -> None:
        super().__init__(cross)
        self.past: list[tuple[Block, Block]] = []
        """Keys and values of each layer."""

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `Memory`."""
        self.past.append((key, value))
        return key, value


class Slots:
    """Static slots `[size, heads, capacity, head_dim]` per layer, a position per row; the first `rows` are in use.

    `begin` fixes where the block goes (`position[row] ... position[row] + block - 1`), `extend` writes it there,
    and the mask lets query i of a row see keys `<= position[row] + i`. What lies beyond is stale and never seen.
    """

    def __init__(
        self,
        layers: int,
        window: tuple[int, int, int, int],
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        whole: bool = False,
    ) -> None:
        """`window` is the shape of a layer's cross-attention keys: `size, heads, positions, head_dim`.

        With `whole` every block attends to all of the slots (what is not yet there is masked), so that the shapes
        never change.
        """
        size, heads, _, head_dim = window

        def room(*shape: int) -> tuple[Tensor, Tensor]:
            # Zeros, since a stale NaN would get through a mask; what is never used costs no memory on a CPU.
            return torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)

        self._cross = [room(*window) for _ in range(layers)]
        self._past = [room(size, heads, capacity, head_dim) for _ in range(layers)]
        self.size, self.capacity, self.rows = size, capacity, 0
        self._whole = whole
        self._end = 0
        self._at: Tensor | int = 0

    def cross(self, layer: int) -> tuple[Keys, Keys]:
        """See `Memory`."""
        key, value = self._cross[layer]
        return key[: self.rows], value[: self.rows]

    def begin(
        self, position: Int[Tensor, "batch"], block: int
    ) -> tuple[Bool[Tensor, "batch 1 block keys"] | None, bool]:
        """See `Memory`. Raises `ValueError` when the block does not fit the slots."""
        low, high = (int(bound) for bound in torch.aminmax(position))
        if high + block > self.capacity:
            raise ValueError(f"a block of {block} at position {high} does not fit {self.capacity} slots")
        self._end = self.capacity if self._whole else high + block
        steps = torch.arange(block, device=position.device)
        self._at = (position[:, None] + steps)[:, None, :, None]
        if low == high and not self._whole:  # rows in step: a slice serves
            self._at = low
            if block == 1:
                return None, False
            if low == 0:
                return None, True
        keys = torch.arange(self._end, device=position.device)
        return (keys <= (position[:, None] + steps)[:, :, None])[:, None], False

    def extend(self, layer: int, key: Block, value: Block) -> tuple[Keys, Keys]:
        """See `Memory`."""
        keys, values = (kept[: self.rows] for kept in self._past[layer])
        if isinstance(self._at, int):
            stop = self._at + key.shape[2]
            keys[:, :, self._at : stop] = key
            values[:, :, self._at : stop] = value
        else:
            index = self._at.expand_as(key)
            keys.scatter_(2, index, key)
            values.scatter_(2, index, value)
        return keys[:, :, : self._end], values[:, :, : self._end]

    def put(self, rows: list[int], beginning: Beginning) -> None:
        """Give these rows the windows and the past of a beginning; rows beyond those in use come into use.

        Raises `ValueError` for a row that is not there, or where rows between would be in use and empty.
        """
        high = max(rows) + 1
        if high > self.size or not set(range(self.rows, high)) <= set(rows):
            raise ValueError(f"rows {sorted(rows)} do not follow the {self.rows} in use of {self.size}")
        self.rows = max(self.rows, high)
        for layer, kept in enumerate(self._cross):
            for mine, theirs in zip(kept, beginning.cross(layer), strict=True):
                mine[rows] = theirs
        for kept, said in zip(self._past, beginning.past, strict=False):  # nothing said: no past
            for mine, theirs in zip(kept, said, strict=True):
                mine[rows, :, : theirs.shape[2]] = theirs

    def keep(self, rows: Int[Tensor, "kept"]) -> Int[Tensor, "kept"]:
        """Drop all rows but these (finished ones cost nothing more); gives which of the old rows each slot now holds.

        Rows in front stay where they are, the others move into the gaps: little is copied, nothing allocated.
        """
        self.rows = len(rows)
        order = torch.arange(self.rows, device=rows.device)
        gaps = order[~torch.isin(order, rows)]
        order[gaps] = rows[rows >= self.rows]
        if len(gaps):
            for layer in (*self._cross, *self._past):
                for slots in layer:
                    slots[gaps] = slots[order[gaps]]
        return order

    def reorder(self, order: Int[Tensor, "rows"]) -> None:
        """Row i goes on with the past of row `order[i]`; both hear the same window. For the hypotheses of a beam."""
        self.rows = len(order)
        for layer in self._past:
            for slots in layer:
                slots[: self.rows, :, : self._end] = slots[order, :, : self._end]

    def use(self, rows: int) -> None:
        """Take the first `rows` slots into use, whatever they hold."""
        self.rows = rows
