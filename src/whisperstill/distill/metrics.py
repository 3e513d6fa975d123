"""Metrics as one JSON object a line: what plots and tables are derived from."""

import json
from pathlib import Path
from typing import Any

from whisperstill.files import write_whole


class Metrics:
    """`metrics.jsonl` of a run. A resume drops the lines after its checkpoint, so no step stands twice.

    Of several processes only one `writes`.
    """

    def __init__(self, path: Path, resume_step: int, writes: bool) -> None:
        self.path, self.writes = path, writes
        if not writes:
            return
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **figures: Any) -> None:
        """Append a line."""
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(figures) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line cut off by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
