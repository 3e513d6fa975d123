"""Verdicts on disk: what was written is read back, and what does not belong together is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from whisperstill.errors import NotFoundError, StoreError
from whisperstill.label.rules import RuleSettings, judge
from whisperstill.label.verdicts import read_verdicts, rows, write_verdicts
from whisperstill.records import EditCounts

from unit.label.builders import evidence, labelled

JUDGED = judge(
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
    write_verdicts(output, labels, rows(JUDGED), {"settings": {"max_wer": 10}})
    return labels, output


def test_round_trip(places: tuple[Path, Path]) -> None:
    labels, output = places
    found, verdicts = read_verdicts(output)
    assert found.resolve() == labels.resolve()
    names = ["good", "bad", "loud", "free"]
    assert verdicts == {("w1", "corpus", name): one for name, one in zip(names, JUDGED.verdicts, strict=True)}
    table = pq.read_table(output / "verdicts.parquet").to_pylist()
    assert [row["wer"] for row in table] == [0.0, 0.0, float("inf"), None]
    assert [row["words"] for row in table] == [100, 100, 0, 3]
    assert [path.name for path in sorted(output.iterdir())] == ["filter.json", "verdicts.parquet"]
    summary = json.loads((output / "filter.json").read_text())
    assert summary["labels"] == "../../labels"
    assert summary["settings"] == {"max_wer": 10}


def test_a_moved_project_is_found_again(places: tuple[Path, Path], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "labels").rename(moved / "labels")
    (tmp_path / "deep").rename(moved / "deep")
    assert read_verdicts(moved / "deep" / "filtered")[0] == moved / "labels"


def test_what_does_not_belong_together_is_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    labels, output = places
    with pytest.raises(NotFoundError, match="no verdicts"):
        read_verdicts(tmp_path)
    (labels / "manifest.json").write_text("{ }")
    with pytest.raises(StoreError, match="have changed"):
        read_verdicts(output)
    (labels / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match="run `whisperstill label`"):
        read_verdicts(output)
    content = (output / "verdicts.parquet").read_bytes()
    (output / "verdicts.parquet").write_bytes(content[:-1] + b"x")
    with pytest.raises(StoreError, match="damaged"):
        read_verdicts(output)
    (output / "filter.json").write_text("[]")
    with pytest.raises(StoreError, match="not readable"):
        read_verdicts(output)
    (output / "filter.json").write_text("{}")
    with pytest.raises(StoreError, match="not a summary"):
        read_verdicts(output)
