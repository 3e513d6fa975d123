"""`<output>.stage.json` beside the output of a stage: what it was made from, and whether the stage finished."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import from_dict, read_json, write_json


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One run of a stage."""

    key: str
    """Hash of settings and inputs (`pipeline.cache_key`)."""
    verb: str
    state: str
    """`started` or `finished`."""
    settings: JsonObject
    force: bool = False
    """Whether the run was forced with `--force`."""
    seconds: float = 0.0
    report: JsonObject | None = None
    """The stage's report; None until it returned."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of whisperstill and its libraries."""


def stage_record_path(output: Path) -> Path:
    """Path of the record of a stage's output."""
    return output.with_name(f"{output.name}.stage.json")


def read_stage_record(output: Path) -> StageRecord | None:
    """The record of an output; None if there is none, or it cannot be read."""
    try:
        return from_dict(StageRecord, read_json(stage_record_path(output)))
    except ValueError:
        return None


def write_stage_record(output: Path, record: StageRecord) -> None:
    """Writes the record of an output atomically."""
    write_json(stage_record_path(output), asdict(record))


def move_aside(output: Path) -> Path:
    """Renames an output to the first free `<name>.old-N` and returns that path."""
    number = 1
    while (target := output.with_name(f"{output.name}.old-{number}")).exists():
        number += 1
    output.rename(target)
    return target
