"""Static slots: rows that leave, and what the others find afterwards."""

import pytest
import torch
from torch import Tensor

from whisperstill.model.kv_cache import PrefillCache, StaticKVCache

ROWS, CAPACITY = 6, 5


def filled() -> StaticKVCache:
    """Everything that belongs to row r has the value r."""

    def of_rows(*shape: int) -> Tensor:
        return torch.arange(float(ROWS))[:, None, None, None].expand(ROWS, *shape).contiguous()

    beginning = PrefillCache([(of_rows(2, 7, 4), of_rows(2, 7, 4)) for _ in range(2)])
    for layer in range(2):
        beginning.extend(layer, of_rows(2, 3, 4), of_rows(2, 3, 4))
    slots = StaticKVCache(2, (ROWS, 2, 7, 4), CAPACITY)
    slots.insert_rows(list(range(ROWS)), beginning)
    return slots


@pytest.mark.parametrize(
    ("kept", "order"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 2, 5], [0, 5, 2]),
        ([3, 4, 5], [3, 4, 5]),
        ([5], [5]),
        ([0, 1, 3, 4, 5], [0, 1, 5, 3, 4]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_kept_rows_are_whole_and_named(kept: list[int], order: list[int]) -> None:
    slots = filled()
    found = slots.keep_rows(torch.tensor(kept))
    assert found.tolist() == order
    assert slots.num_rows == len(kept)
    position = torch.full((len(kept),), 3)
    slots.prepare_block(position, 1)
    for layer in range(2):
        new = found.float()[:, None, None, None].expand(-1, 2, 1, 4)
        for tensor in (*slots.cross_kv(layer), *slots.extend(layer, new, new)):
            assert torch.equal(tensor, found.float()[:, None, None, None].expand_as(tensor))


def test_rows_leave_again_and_again() -> None:
    slots = filled()
    names = torch.arange(ROWS)
    for kept in ([0, 2, 3, 5], [1, 3], [1]):
        names = names[slots.keep_rows(torch.tensor(kept))]
        assert torch.equal(slots.cross_kv(0)[0][:, 0, 0, 0], names.float())


def test_control_the_old_order_is_not_the_new_one() -> None:
    slots = filled()
    slots.keep_rows(torch.tensor([0, 2, 5]))
    assert slots.cross_kv(0)[0][:, 0, 0, 0].tolist() != [0, 2, 5]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="within 5 tokens"):
        filled().prepare_block(torch.zeros(ROWS, dtype=torch.long) + 3, 3)
