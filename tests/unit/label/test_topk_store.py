"""Random access to top-k rows with any cache budget."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whisperstill.errors import StoreError
from whisperstill.label.store_writer import write_shard_files
from whisperstill.label.topk_store import ROW_GROUP_WINDOWS, TOPK_SCHEMA, TopKReader

K = 3


def table(shard: str, windows: int) -> pa.Table:
    rows = []
    for index in range(windows):
        steps = index % 5 + 1
        row = {"window": f"{shard}-{index}", "k": K, "tokens": [index] * steps, "top_ids": [*range(steps * K)]}
        row |= {"top_logits": [index + step / 8 for step in range(steps * K)]}
        row |= {name: [index / 4.0] * steps for name in ("lse1", "lse2", "tail1", "tail2")}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=TOPK_SCHEMA)


@pytest.mark.parametrize("budget", [1, 2000, 1 << 30])
def test_any_order_gives_the_same_rows(tmp_path: Path, budget: int) -> None:
    for shard, windows in (("00000", 11), ("00001", 4)):
        write_shard_files(tmp_path, shard, {"topk": table(shard, windows)}, {})
    requests = [("00000", index) for index in range(11)] + [("00001", index) for index in range(4)]
    random.Random(0).shuffle(requests)
    reader = TopKReader(tmp_path, budget)
    for shard, index in requests * 2:
        top = reader.read(shard, f"{shard}-{index}")
        steps = index % 5 + 1
        assert top.tokens.tolist() == [index] * steps
        assert top.ids.tolist() == [[*range(step * K, step * K + K)] for step in range(steps)]
        assert top.logits.flatten().tolist() == [index + step / 8 for step in range(steps * K)]
        assert top.lse1.tolist() == top.lse2.tolist() == [index / 4.0] * steps
        held = [group.nbytes for group in reader._row_groups.values()]
        assert sum(held) == reader._cached_bytes
        assert len(held) == 1 or sum(held) <= budget
    assert len(reader._row_groups) == {1: 1, 1 << 30: 4}.get(budget, len(reader._row_groups))


def test_reading_a_window_reads_one_row_group(tmp_path: Path) -> None:
    write_shard_files(tmp_path, "00000", {"topk": table("00000", 10), "labels": table("00000", 10)}, {})
    assert pq.ParquetFile(tmp_path / "topk-00000.parquet").num_row_groups == -(-10 // ROW_GROUP_WINDOWS)
    assert pq.ParquetFile(tmp_path / "labels-00000.parquet").num_row_groups == 1


def test_missing_and_damaged_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no top-k logits: label with --top-k 32"):
        TopKReader(tmp_path).read("00000", "w")
    (tmp_path / "topk-00000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"cannot be read .*: label again"):
        TopKReader(tmp_path).read("00000", "w")
