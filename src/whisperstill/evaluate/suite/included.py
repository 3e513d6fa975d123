"""Results of other commands that a suite includes: ablations, training curves, filter counts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whisperstill.errors import NotFoundError
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.suite.spec import Include
from whisperstill.pipeline.runner import read_stage_record
from whisperstill.records.eval_results import Ablation, CurvePoint, TrainingCurve
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import from_dict, read_json, read_record


@dataclass(frozen=True)
class FilterSummary:
    """What is read of `filter.json`."""

    kept: int
    dropped: dict[str, int]
    """Utterances by the rule that dropped them."""
    hours: float = 0.0
    hours_kept: float = 0.0


def include_results(runner: SuiteRunner, table: Include) -> Iterator[Ablation | TrainingCurve]:
    """Ablation tables, and for each student its training curve and filter counts."""
    for path in table.ablations:
        with runner.failures.record(f"ablations {path}"):
            ablations = read_json(Path(path)).get("ablations")
            if not isinstance(ablations, list):
                raise NotFoundError(f"expected ablations.json of `whisperstill ablate`, found none at {path}")
            for ablation in ablations:
                yield from_dict(Ablation, ablation)
    shared_counts: dict[str, int] = {}
    if folder := table.filter_summary:
        with runner.failures.record(f"filter {folder}"):
            shared_counts = read_filter_counts(Path(folder))
            if not shared_counts:
                raise NotFoundError(f"expected the output of `whisperstill filter`, found none at {folder}")
    for name in runner.suite.students:
        student = Path(runner.suite.models[name].model)
        points = read_training_curve(student / "metrics.jsonl")
        record = read_stage_record(student)
        labels = record.settings.get("labels") if record is not None else None
        counts = (read_filter_counts(Path(labels)) if isinstance(labels, str) else {}) or shared_counts
        if points or counts:
            yield TrainingCurve(name, points, counts)


def read_filter_counts(folder: Path) -> dict[str, int]:
    """Utterances that a filter kept, and dropped by each rule; empty if the folder is not a filter's output."""
    counts = read_record(folder / "filter.json", FilterSummary)
    return {} if counts is None else {"kept": counts.kept, **counts.dropped}


def read_training_curve(path: Path) -> tuple[CurvePoint, ...]:
    """Loss and validation WER by step from `metrics.jsonl`; empty without such a file."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError):
        return ()
    by_step: dict[int, JsonObject] = {}
    for line in lines:
        by_step.setdefault(line["step"], {}).update(line)
    return tuple(from_dict(CurvePoint, values) for _, values in sorted(by_step.items()))
