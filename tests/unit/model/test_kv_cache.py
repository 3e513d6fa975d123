"""StaticKVCache: dropping, moving and reusing rows."""

import pytest
import torch
from torch import Tensor

from whisperstill.model.kv_cache import PrefillCache, StaticKVCache

ROWS, CAPACITY = 6, 5


def filled() -> StaticKVCache:
    """Cache in which all keys and values of row r equal r."""

    def of_rows(*shape: int) -> Tensor:
        return torch.arange(float(ROWS))[:, None, None, None].expand(ROWS, *shape).contiguous()

    prefill_cache = PrefillCache([(of_rows(2, 7, 4), of_rows(2, 7, 4)) for _ in range(2)])
    for layer in range(2):
        prefill_cache.extend(layer, of_rows(2, 3, 4), of_rows(2, 3, 4))
    cache = StaticKVCache(2, (ROWS, 2, 7, 4), CAPACITY)
    cache.insert_rows(list(range(ROWS)), prefill_cache)
    return cache


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 2, 5], [0, 5, 2]),
        ([3, 4, 5], [3, 4, 5]),
        ([5], [5]),
        ([0, 1, 3, 4, 5], [0, 1, 5, 3, 4]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_keep_rows_moves_keys_and_values(rows: list[int], order: list[int]) -> None:
    cache = filled()
    order_found = cache.keep_rows(torch.tensor(rows))
    assert order_found.tolist() == order
    assert cache.num_rows == len(rows)
    position = torch.full((len(rows),), 3)
    cache.prepare_block(position, 1)
    for layer in range(2):
        new = order_found.float()[:, None, None, None].expand(-1, 2, 1, 4)
        for tensor in (*cache.cross_kv(layer), *cache.extend(layer, new, new)):
            torch.testing.assert_close(
                tensor, order_found.float()[:, None, None, None].expand_as(tensor), rtol=0, atol=0
            )


def test_keep_rows_repeatedly() -> None:
    cache = filled()
    old_rows = torch.arange(ROWS)
    for rows in ([0, 2, 3, 5], [1, 3], [1]):
        old_rows = old_rows[cache.keep_rows(torch.tensor(rows))]
        torch.testing.assert_close(cache.cross_kv(0)[0][:, 0, 0, 0], old_rows.float(), rtol=0, atol=0)


def test_control_keep_rows_changes_the_order() -> None:
    cache = filled()
    cache.keep_rows(torch.tensor([0, 2, 5]))
    assert cache.cross_kv(0)[0][:, 0, 0, 0].tolist() != [0, 2, 5]


def test_block_beyond_capacity_raises() -> None:
    with pytest.raises(ValueError, match="within 5 tokens"):
        filled().prepare_block(torch.zeros(ROWS, dtype=torch.long) + 3, 3)
