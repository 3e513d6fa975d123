"""Runs all measurements of a suite and collects them into `EvalResults`."""

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import SettingsError
from whisperstill.evaluate.metrics import SystemOutput
from whisperstill.evaluate.suite import measurements, spec
from whisperstill.evaluate.suite.datasets import EvalDataset
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.records import eval_results as records
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import DataclassInstance
from whisperstill.versions import package_versions

Record = TypeVar("Record")


def run_suite(runner: SuiteRunner) -> records.EvalResults:
    """All results of a suite. Raises `SettingsError` if nothing could be measured."""
    started_at = datetime.now(UTC)
    # 1. Run measurement by measurement; one that fails leaves what it has yielded so far.
    measured: list[DataclassInstance] = []
    for name in spec.MEASUREMENT_TABLES:
        if name in runner.suite.measurements:
            with runner.failures.record(name.replace("_", " ")):
                for record in _measure(runner, name, runner.suite.measurements[name]):
                    measured.append(record)
    if not measured:
        raise SettingsError(f"nothing could be measured: {runner.failures.first()}")
    # 2. Real-time factors of cached results hold for the threads that they ran with.
    threads = torch.get_num_threads()
    for cached_threads, count in runner.cached_by_threads.items():
        if cached_threads != threads:
            runner.console.warn(
                f"{count} cached results were timed with {cached_threads} threads, this run uses {threads}; use a new "
                "--output to time them again"
            )
    # 3. Collect.
    return records.EvalResults(
        name=runner.suite.name,
        provenance=_provenance(runner, started_at),
        models=tuple(system.info for system in runner.systems.values()),
        datasets=tuple(_dataset_info(dataset) for dataset in runner.datasets.values()),
        results=_select(measured, records.DatasetResult),
        speeds=_select(measured, records.SpeedResult),
        speculative=_select(measured, records.SpeculativeResult),
        draft_traces=_select(measured, records.DraftTrace),
        error_examples=_select(measured, records.ErrorExample),
        ablations=_select(measured, records.Ablation),
        training_curves=_select(measured, records.TrainingCurve),
        failures=runner.failures.all(),
    )


def _measure(runner: SuiteRunner, name: str, table: spec.Measurement) -> Iterator[DataclassInstance]:
    """Records of one measurement; `error_examples` takes outputs of earlier ones."""
    match table:
        case spec.SpeedTable():
            return measurements.measure_system_speed(runner, table)
        case spec.Speculative():
            return measurements.measure_speculative(runner, table)
        case spec.ErrorExamples():
            return measurements.collect_error_examples(runner, table)
        case spec.Include():
            return measurements.include_results(runner, table)
    return measurements.measure_error_rates(name, runner, table)


def _select(measured: Iterable[DataclassInstance], record_type: type[Record]) -> tuple[Record, ...]:
    return tuple(record for record in measured if isinstance(record, record_type))


def _dataset_info(dataset: EvalDataset) -> records.DatasetInfo:
    return records.DatasetInfo(
        name=dataset.name,
        manifest=dataset.spec.manifest,
        sha256=dataset.sha256,
        utterances=len(dataset.utterances),
        hours=dataset.seconds / 3600,
        words=sum(len(dataset.scoring.split(utterance.text or "")) for utterance in dataset.utterances),
        language=dataset.language,
        normalizer=dataset.scoring.normalizer,
        unit=dataset.scoring.unit,
        in_distribution=dataset.spec.in_distribution,
        long_form=dataset.is_long_form,
        non_speech=dataset.spec.non_speech,
    )


def _provenance(runner: SuiteRunner, started_at: datetime) -> JsonObject:
    suite_json = json.dumps(runner.suite.content, sort_keys=True)
    cached = runner.cached_by_threads
    return {
        **package_versions(),
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(runner.device) if runner.device.startswith("cuda") else "cpu",
        "dtype": str(runner.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "suite_sha256": hashlib.sha256(suite_json.encode()).hexdigest(),
        "started": started_at.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "results_decoded": runner.num_decoded,
        "results_cached": cached.total(),
        "results_cached_by_threads": {str(threads): count for threads, count in sorted(cached.items())},
    }


def processor_name() -> str:
    """Model name of the processor, as far as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_hypotheses(outputs: Mapping[str, Mapping[str, SystemOutput]], folder: Path) -> None:
    """Writes `hypotheses-<model>-<dataset>.jsonl` for outputs by dataset and model.

    One line per utterance: id, reference, hypothesis, edits. A number is appended where two pairs share a name.
    """
    used_names: set[str] = set()
    for dataset, by_model in outputs.items():
        for model, output in by_model.items():
            stem = name = f"hypotheses-{_slug(model)}-{_slug(dataset)}"
            number = 1
            while name in used_names:
                number += 1
                name = f"{stem}-{number}"
            used_names.add(name)
            rows = [
                {"id": utterance.id, "reference": utterance.text, "hypothesis": text, "edits": asdict(edits)}
                for utterance, text, edits in zip(output.utterances, output.texts, output.edits, strict=True)
            ]
            atomic_write(folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _slug(name: str) -> str:
    """The last part of a path or name, with characters that every file system takes."""
    parts = [part for part in re.split(r"[/\\]", name) if part and part != "."]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", parts[-1] if parts else name).strip(".") or "model"
