"""Metrics as one JSON object a line: what plots and tables are derived from."""

import json
from pathlib import Path
from typing import Any

from whisperstill.atomic_io import atomic_write


class MetricsLogger:
    """`metrics.jsonl` of a run. A resume drops the lines after its checkpoint, so no step stands twice.

    Of several processes only one is `enabled`.
    """

    def __init__(self, path: Path, resume_step: int, enabled: bool) -> None:
        self.path, self.enabled = path, enabled
        if not enabled:
            return
        previous_lines = [line for line in read_metrics(path) if line["step"] <= resume_step]
        atomic_write(path, "".join(json.dumps(line) + "\n" for line in previous_lines))

    def log(self, **values: Any) -> None:
        """Append a line."""
        if not self.enabled:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line cut off by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
