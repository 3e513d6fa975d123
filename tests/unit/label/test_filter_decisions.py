"""Filter decisions on disk: round trip, and refusal of damaged or mismatched files."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.filter_decisions import build_decision_rows, read_decisions, write_decisions
from whisperstill.label.filter_rules import RuleSettings, apply_filter
from whisperstill.records import EditCounts

from unit.label.builders import make_label, make_quality

FILTERED = apply_filter(
    make_label(
        "w1",
        make_quality("good"),
        make_quality("bad", text=""),
        make_quality("loud", edits=EditCounts(0, 0, 0, 2)),
        make_quality("free", edits=None),
    ),
    RuleSettings(),
)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    labels, output = tmp_path / "labels", tmp_path / "deep" / "filtered"
    labels.mkdir()
    (labels / "manifest.json").write_text("{}")
    write_decisions(output, labels, build_decision_rows(FILTERED), {"settings": {"max_wer": 10}})
    return labels, output


def test_round_trip(folders: tuple[Path, Path]) -> None:
    labels, output = folders
    labels_path, decisions = read_decisions(output)
    assert labels_path.resolve() == labels.resolve()
    names = ["good", "bad", "loud", "free"]
    assert decisions == {
        ("w1", "corpus", name): decision for name, decision in zip(names, FILTERED.decisions, strict=True)
    }
    table = pq.read_table(output / "filter_decisions.parquet").to_pylist()
    assert [row["wer"] for row in table] == [0.0, 0.0, float("inf"), None]
    assert [row["words"] for row in table] == [100, 100, 0, 3]
    assert [path.name for path in sorted(output.iterdir())] == ["filter.json", "filter_decisions.parquet"]
    summary = json.loads((output / "filter.json").read_text())
    assert summary["labels"] == "../../labels"
    assert summary["settings"] == {"max_wer": 10}


def test_labels_are_found_after_a_move(folders: tuple[Path, Path], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "labels").rename(moved / "labels")
    (tmp_path / "deep").rename(moved / "deep")
    assert read_decisions(moved / "deep" / "filtered")[0] == moved / "labels"


def test_damaged_or_mismatched_files_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    labels, output = folders
    with pytest.raises(NotFoundError, match=r"no filter\.json in .*: run `whisperstill filter` first"):
        read_decisions(tmp_path)
    (labels / "manifest.json").write_text("{ }")
    with pytest.raises(StoreError, match="have changed"):
        read_decisions(output)
    (labels / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match="run `whisperstill label`"):
        read_decisions(output)
    content = (output / "filter_decisions.parquet").read_bytes()
    (output / "filter_decisions.parquet").write_bytes(content[:-1] + b"x")
    with pytest.raises(StoreError, match="damaged"):
        read_decisions(output)
    (output / "filter.json").write_text("[]")
    with pytest.raises(StoreError, match="cannot be read"):
        read_decisions(output)
    (output / "filter.json").write_text('{"kind": "verdicts", "format": 1}')
    with pytest.raises(StoreError, match=r"before 0\.1\.0 \(format 1, expected 2\)"):
        read_decisions(output)
    (output / "filter.json").write_text("{}")
    with pytest.raises(StoreError, match="not written by `whisperstill filter` in format 2"):
        read_decisions(output)
