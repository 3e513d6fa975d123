"""The teacher's largest logits, read window by window as training asks for them in any order.

`topk-*.parquet` is written in groups of a few rows, so that one window costs the reading of its group alone. What was
read stays in memory up to a budget: all of a small store, a part of one that is larger than the machine.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from whisperstill.errors import StoreError

ROW_GROUP_WINDOWS = 4
"""Windows that are written, and read again, together."""
CACHE_BUDGET_BYTES = 1 << 30
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
class _TopKFile:
    path: Path
    metadata: pq.FileMetaData
    row_positions: dict[str, tuple[int, int]]
    """Window -> its group, and its row in that."""


class TopKReader:
    """Reads `topk-*.parquet` of one store."""

    def __init__(self, directory: Path, budget_bytes: int = CACHE_BUDGET_BYTES) -> None:
        """`budget_bytes`: bytes of rows that may stay in memory."""
        self.directory = directory
        self.budget_bytes = budget_bytes
        self._files: dict[str, _TopKFile] = {}
        self._row_groups: dict[tuple[str, int], pa.Table] = {}
        self._cached_bytes = 0

    def read(self, shard: str, window: str) -> TopK:
        """Top-k of a window. Raises `StoreError` when the store was made without, or is damaged."""
        if shard not in self._files:
            self._files[shard] = self._open_file(shard)
        group, row = self._files[shard].row_positions[window]
        table = self._read_row_group(shard, group)
        k = table["k"][row].as_py()

        def read_column(name: str, dtype: torch.dtype) -> Tensor:
            values = table[name][row].values.to_numpy(zero_copy_only=False)
            return torch.from_numpy(values.copy()).to(dtype)

        return TopK(
            tokens=read_column("tokens", torch.long),
            ids=read_column("top_ids", torch.long).view(-1, k),
            logits=read_column("top_logits", torch.float32).view(-1, k),
            lse1=read_column("lse1", torch.float32),
            lse2=read_column("lse2", torch.float32),
        )

    def _read_row_group(self, shard: str, group: int) -> pa.Table:
        key = (shard, group)
        if key in self._row_groups:
            self._row_groups[key] = self._row_groups.pop(key)
            return self._row_groups[key]
        file = self._files[shard]
        try:
            with pq.ParquetFile(file.path, metadata=file.metadata) as parquet_file:
                table = parquet_file.read_row_group(group, use_threads=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"{file.path} cannot be read ({error}): label again") from error
        self._row_groups[key] = table
        self._cached_bytes += table.nbytes
        while self._cached_bytes > self.budget_bytes and len(self._row_groups) > 1:
            self._cached_bytes -= self._row_groups.pop(next(iter(self._row_groups))).nbytes
        return table

    def _open_file(self, shard: str) -> _TopKFile:
        path = self.directory / f"topk-{shard}.parquet"
        if not path.exists():
            raise StoreError(f"{self.directory} holds no top-k: label with --top-k 32")
        try:
            with pq.ParquetFile(path) as parquet_file:
                row_positions = {
                    window: (group, row)
                    for group in range(parquet_file.num_row_groups)
                    for row, window in enumerate(parquet_file.read_row_group(group, ["window"])["window"].to_pylist())
                }
                return _TopKFile(path, parquet_file.metadata, row_positions)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): label again") from error
