"""The teacher's top-k logits on disk, with random access.

`topk-*.parquet` has a row per window: for each token the k largest logits, the exact log-sum-exp at T = 1 and T = 2 and
the probability mass outside the k. Lists are flat: token i of a window owns entries `i * k ... (i + 1) * k - 1`; the
last token is <|endoftext|> if the teacher ended the transcript.

Row groups hold a few windows, so reading one window reads only its group. Groups are cached in memory up to a budget,
least recently used evicted first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from whisperstill.decode.generate.token_stats import TokenStats
from whisperstill.errors import StoreError

ROW_GROUP_WINDOWS = 4
"""Windows per row group."""
CACHE_BUDGET_BYTES = 1 << 30
"""Maximum size of the cache of row groups, in bytes."""

TOPK_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("k", pa.int32()),
        ("top_ids", pa.list_(pa.int32())),
        *((name, pa.list_(pa.float32())) for name in ("top_logits", "lse1", "lse2", "tail1", "tail2")),
    ]
)

TopKRow: TypeAlias = dict[str, str | int | list[int] | npt.NDArray[np.int32] | npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class TopK:
    """Top-k of the teacher's distribution at every target token of a window."""

    tokens: Tensor
    """Target ids `[tokens]`, <|endoftext|> included."""
    ids: Tensor
    """Token ids of the largest logits `[tokens, k]`."""
    logits: Tensor
    """Their values `[tokens, k]`, float32."""
    lse1: Tensor
    """Log-sum-exp of all logits at T = 1 `[tokens]`."""
    lse2: Tensor
    """The same at T = 2."""


@dataclass(frozen=True, slots=True)
class _TopKFile:
    path: Path
    metadata: pq.FileMetaData
    row_positions: dict[str, tuple[int, int]]
    """Row group, and row in it, by window id."""


class TopKReader:
    """Reads `topk-*.parquet` of one store."""

    def __init__(self, directory: Path, budget_bytes: int = CACHE_BUDGET_BYTES) -> None:
        self.directory = directory
        self.budget_bytes = budget_bytes
        self._files: dict[str, _TopKFile] = {}
        self._row_groups: dict[tuple[str, int], pa.Table] = {}
        self._cached_bytes = 0

    def read(self, shard: str, window: str) -> TopK:
        """Top-k of a window. Raises `StoreError` when the store has none or is damaged."""
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
            self._row_groups[key] = self._row_groups.pop(key)  # most recently used last
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
            raise StoreError(f"{self.directory} holds no top-k logits: label with --top-k 32")
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


def topk_to_row(window_id: str, tokens: Sequence[int], stats: TokenStats) -> TopKRow:
    """A row of `topk-*.parquet`. `tokens` are the target tokens, <|endoftext|> included."""

    def tail_mass(lse: Tensor, temperature: float) -> npt.NDArray[np.float32]:
        topk_mass = (stats.top_logits.double() / temperature - lse.double()[:, None]).exp().sum(-1)
        mass: npt.NDArray[np.float32] = (1 - topk_mass).clamp_min(0).float().numpy()
        return mass

    return {
        "window": window_id,
        "tokens": list(tokens),
        "k": int(stats.top_ids.shape[1]),
        "top_ids": stats.top_ids.to(torch.int32).flatten().numpy(),
        "top_logits": stats.top_logits.flatten().numpy(),
        "lse1": stats.lse1.numpy(),
        "lse2": stats.lse2.numpy(),
        "tail1": tail_mass(stats.lse1, 1.0),
        "tail2": tail_mass(stats.lse2, 2.0),
    }
