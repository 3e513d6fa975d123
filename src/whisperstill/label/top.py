"""The teacher's largest logits, read window by window as training asks for them in any order.

`top-*.parquet` is written in groups of a few rows, so that one window costs the reading of its group alone. What was
read stays in memory up to a budget: all of a small store, a part of one that is larger than the machine.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from whisperstill.errors import StoreError

GROUP = 4
"""Windows that are written, and read again, together."""
BUDGET = 1 << 30
"""Bytes that may stay in memory."""


@dataclass(frozen=True, slots=True)
class TopK:
    """What the store knows of the teacher's distribution at a window's tokens."""

    tokens: Tensor
    """Targets `[steps]`, the end token included."""
    ids: Tensor
    """`[steps, k]`."""
    logits: Tensor
    """`[steps, k]`, float32."""
    lse1: Tensor
    lse2: Tensor


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    metadata: pq.FileMetaData
    places: dict[str, tuple[int, int]]
    """Window -> its group, and its row in that."""


class TopReader:
    """Reads `top-*.parquet` of one store."""

    def __init__(self, directory: Path, budget: int = BUDGET) -> None:
        """`budget`: bytes of rows that may stay in memory."""
        self.directory = directory
        self.budget = budget
        self._files: dict[str, _File] = {}
        self._groups: dict[tuple[str, int], pa.Table] = {}
        self._held = 0

    def read(self, shard: str, window: str) -> TopK:
        """Top-k of a window. Raises `StoreError` when the store was made without, or is damaged."""
        if shard not in self._files:
            self._files[shard] = self._opened(shard)
        group, row = self._files[shard].places[window]
        table = self._group(shard, group)
        k = table["k"][row].as_py()

        def array(name: str, dtype: torch.dtype) -> Tensor:
            values = table[name][row].values.to_numpy(zero_copy_only=False)
            return torch.from_numpy(values.copy()).to(dtype)

        return TopK(
            tokens=array("tokens", torch.long),
            ids=array("top_ids", torch.long).view(-1, k),
            logits=array("top_logits", torch.float32).view(-1, k),
            lse1=array("lse1", torch.float32),
            lse2=array("lse2", torch.float32),
        )

    def _group(self, shard: str, group: int) -> pa.Table:
        key = (shard, group)
        if key in self._groups:
            self._groups[key] = self._groups.pop(key)
            return self._groups[key]
        file = self._files[shard]
        try:
            with pq.ParquetFile(file.path, metadata=file.metadata) as opened:
                table = opened.read_row_group(group, use_threads=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"{file.path} cannot be read ({error}): label again") from error
        self._groups[key] = table
        self._held += table.nbytes
        while self._held > self.budget and len(self._groups) > 1:
            self._held -= self._groups.pop(next(iter(self._groups))).nbytes
        return table

    def _opened(self, shard: str) -> _File:
        path = self.directory / f"top-{shard}.parquet"
        if not path.exists():
            raise StoreError(f"{self.directory} holds no top-k: label with --top 32")
        try:
            with pq.ParquetFile(path) as opened:
                places = {
                    window: (group, row)
                    for group in range(opened.num_row_groups)
                    for row, window in enumerate(opened.read_row_group(group, ["window"])["window"].to_pylist())
                }
                return _File(path, opened.metadata, places)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): label again") from error
