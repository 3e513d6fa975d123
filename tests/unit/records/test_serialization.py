"""Records to JSON and back."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import from_dict, read_record, to_jsonable, write_json


@dataclass(frozen=True)
class Note:
    id: int
    content: JsonObject = field(default_factory=dict)


NOTE = Note(1, {"text": None, "nested": {"values": [1, 2.5, "three", True]}})


def test_json_values_of_a_record_are_unchanged() -> None:
    assert from_dict(Note, to_jsonable(NOTE)) == NOTE


def test_a_record_is_read_from_its_file(tmp_path: Path) -> None:
    write_json(tmp_path / "note.json", to_jsonable(NOTE))
    assert read_record(tmp_path / "note.json", Note) == NOTE


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "one"}', "{}"])
def test_a_damaged_file_has_no_record(content: str, tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text(content)
    assert read_record(tmp_path / "note.json", Note) is None
    assert read_record(tmp_path / "missing.json", Note) is None
