"""How many windows fit."""

from pathlib import Path

import pytest

from whisperstill.distill import memory_budget as memory
from whisperstill.model.dims import Dims


def test_as_many_windows_as_fit(small_dims: Dims, monkeypatch: pytest.MonkeyPatch) -> None:
    one = memory.window_bytes(small_dims)
    monkeypatch.setattr(memory, "total_memory", lambda device: int(7.5 * one / memory.WINDOW_MEMORY_FRACTION))
    assert memory.default_micro_batch_size(small_dims, "cpu") == 7
    monkeypatch.setattr(memory, "total_memory", lambda device: 1)
    assert memory.default_micro_batch_size(small_dims, "cpu") == 1


@pytest.mark.skipif(memory._glibc() is None, reason="no glibc that tells of its heap")
def test_a_heap_in_pieces_is_given_back() -> None:
    piece, held = 48 * 1024, 2000  # of this size glibc maps none by itself
    blocks = [bytearray(piece) for _ in range(2 * held)]
    before = memory.resident_bytes()
    del blocks[::2]  # every other one stays, so that the heap cannot shrink
    assert before - memory.resident_bytes() < piece * held / 10
    assert not memory.HeapTrimmer(max_fraction=0.9).trim()  # so much is not taken
    heap = memory.HeapTrimmer(max_fraction=1e-4)
    assert heap.trim() and not heap.trim()  # the second time little has come on top
    assert before - memory.resident_bytes() > piece * held / 2
    assert len(blocks) == held


def test_a_container_has_what_it_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.total_memory("cpu")
    for said, expected in (("max\n", whole), ("1073741824\n", 2**30), ("9223372036854771712\n", whole)):
        (tmp_path / "memory.max").write_text(said)
        monkeypatch.setattr(memory, "CGROUP_LIMIT_PATHS", (tmp_path / "memory.max", tmp_path / "none"))
        assert memory.total_memory("cpu") == expected


def test_this_machine_has_memory() -> None:
    assert 2**28 < memory.total_memory("cpu") < 2**50
