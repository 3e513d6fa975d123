"""Micro-batch size by memory, and trimming of the heap."""

from pathlib import Path

import pytest

from whisperstill.distill import memory_budget
from whisperstill.model.dims import Dims


def test_micro_batch_size_is_what_fits_but_at_least_one(small_dims: Dims, monkeypatch: pytest.MonkeyPatch) -> None:
    window_bytes = memory_budget.window_bytes(small_dims)
    total = int(7.5 * window_bytes / memory_budget.WINDOW_MEMORY_FRACTION)
    monkeypatch.setattr(memory_budget, "total_memory", lambda device: total)
    assert memory_budget.default_micro_batch_size(small_dims, "cpu") == 7
    monkeypatch.setattr(memory_budget, "total_memory", lambda device: 1)
    assert memory_budget.default_micro_batch_size(small_dims, "cpu") == 1


@pytest.mark.needs("glibc")
def test_fragmented_heap_is_trimmed() -> None:
    block_bytes, freed_blocks = 48 * 1024, 2000  # glibc does not map blocks of this size one by one
    blocks = [bytearray(block_bytes) for _ in range(2 * freed_blocks)]
    before = memory_budget.resident_bytes()
    del blocks[::2]  # every other block stays, so the heap cannot shrink by itself
    assert before - memory_budget.resident_bytes() < block_bytes * freed_blocks / 10
    assert not memory_budget.HeapTrimmer(max_fraction=0.9).trim()  # below the threshold
    trimmer = memory_budget.HeapTrimmer(max_fraction=1e-4)
    assert trimmer.trim() and not trimmer.trim()  # not again before it has grown
    assert before - memory_budget.resident_bytes() > block_bytes * freed_blocks / 2
    assert len(blocks) == freed_blocks


def test_total_memory_respects_the_limit_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    physical = memory_budget.total_memory("cpu")
    limit_file = tmp_path / "memory.max"
    monkeypatch.setattr(memory_budget, "CGROUP_LIMIT_PATHS", (limit_file, tmp_path / "missing"))
    for text, expected in (("max\n", physical), ("1073741824\n", 2**30), ("9223372036854771712\n", physical)):
        limit_file.write_text(text)
        assert memory_budget.total_memory("cpu") == expected


def test_total_memory_is_plausible() -> None:
    assert 2**28 < memory_budget.total_memory("cpu") < 2**50
