"""How many windows fit."""

import pytest

from whisperstill.distill import memory
from whisperstill.model.dims import Dims


def test_as_many_windows_as_fit(small_dims: Dims, monkeypatch: pytest.MonkeyPatch) -> None:
    one = memory.window_bytes(small_dims)
    monkeypatch.setattr(memory, "total_memory", lambda device: int(7.5 * one / memory.SHARE))
    assert memory.windows_at_a_time(small_dims, "cpu") == 7
    monkeypatch.setattr(memory, "total_memory", lambda device: 1)
    assert memory.windows_at_a_time(small_dims, "cpu") == 1


def test_this_machine_has_memory() -> None:
    assert 2**28 < memory.total_memory("cpu") < 2**50
