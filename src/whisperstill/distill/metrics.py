"""Metrics of a run: `metrics.jsonl`, from which plots and tables are made, and the protocol of other trackers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from whisperstill.atomic_io import atomic_write


@runtime_checkable
class Tracker(Protocol):
    """Receives the metrics of a run. Created with the output directory and the step the run resumes from."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics after a step (from 1)."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class JsonLinesTracker:
    """One JSON object per line in `metrics.jsonl`. A resumed run drops the lines after its checkpoint."""

    def __init__(self, output: Path, resume_step: int) -> None:
        self._path = output / "metrics.jsonl"
        previous_lines = [line for line in read_metrics(self._path) if line["step"] <= resume_step]
        atomic_write(self._path, "".join(json.dumps(line) + "\n" for line in previous_lines))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def close(self) -> None:
        """Nothing to do: every line is on disk."""


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All complete lines; a last line cut off by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
