"""Verdicts on disk: what was written is read back, and what does not belong together is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.filter_decisions import build_decision_rows, read_decisions, write_decisions
from whisperstill.label.filter_rules import RuleSettings, apply_filter
from whisperstill.records import EditCounts

from unit.label.builders import evidence, labelled

JUDGED = apply_filter(
    labelled(
        "w1",
        evidence("good"),
        evidence("bad", text=""),
        evidence("loud", edits=EditCounts(0, 0, 0, 2)),
        evidence("free", edits=None),
    ),
    RuleSettings(),
)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    labels, output = tmp_path / "labels", tmp_path / "deep" / "filtered"
    labels.mkdir()
    (labels / "manifest.json").write_text("{}")
    write_decisions(output, labels, build_decision_rows(JUDGED), {"settings": {"max_wer": 10}})
    return labels, output


def test_round_trip(places: tuple[Path, Path]) -> None:
    labels, output = places
    found, verdicts = read_decisions(output)
    assert found.resolve() == labels.resolve()
    names = ["good", "bad", "loud", "free"]
    assert verdicts == {("w1", "corpus", name): one for name, one in zip(names, JUDGED.decisions, strict=True)}
    table = pq.read_table(output / "filter_decisions.parquet").to_pylist()
    assert [row["wer"] for row in table] == [0.0, 0.0, float("inf"), None]
    assert [row["words"] for row in table] == [100, 100, 0, 3]
    assert [path.name for path in sorted(output.iterdir())] == ["filter.json", "filter_decisions.parquet"]
    summary = json.loads((output / "filter.json").read_text())
    assert summary["labels"] == "../../labels"
    assert summary["settings"] == {"max_wer": 10}


def test_a_moved_project_is_found_again(places: tuple[Path, Path], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "labels").rename(moved / "labels")
    (tmp_path / "deep").rename(moved / "deep")
    assert read_decisions(moved / "deep" / "filtered")[0] == moved / "labels"


def test_what_does_not_belong_together_is_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    labels, output = places
    with pytest.raises(NotFoundError, match="no filter decisions"):
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
    with pytest.raises(StoreError, match="not a filter summary"):
        read_decisions(output)
