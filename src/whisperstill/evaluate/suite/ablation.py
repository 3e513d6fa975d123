"""Rows of an ablation table: students on the datasets of a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from whisperstill.errors import SettingsError
from whisperstill.evaluate.intervals import mean_over_datasets
from whisperstill.evaluate.metrics import SystemOutput
from whisperstill.evaluate.speed import measure_speed
from whisperstill.evaluate.suite.datasets import EvalDataset
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.systems import DecodeMode, EncoderCache, WhisperstillSystem
from whisperstill.records.edit_counts import NO_EDITS
from whisperstill.records.eval_results import AblationRow

SPEED_ROUNDS = 5
"""Timed repetitions of each student and the teacher."""


class AblationEvaluator:
    """Evaluates students, one in memory at a time; the encoder they share runs once per dataset."""

    def __init__(self, runner: SuiteRunner, in_distribution: Sequence[str]) -> None:
        """`runner` has a model `teacher`; means leave out the `in_distribution` datasets.

        Raises `SettingsError` if a model or dataset failed, or a dataset is unknown.
        """
        if runner.failures.failed:
            raise SettingsError(runner.failures.first())
        if unknown := [name for name in in_distribution if name not in runner.datasets]:
            known = ", ".join(runner.datasets)
            raise SettingsError(f"in_distribution: expected names of test datasets ({known}), got {', '.join(unknown)}")
        self._runner = runner
        self._in_distribution = in_distribution
        self._encoder_caches = {name: EncoderCache(shared=True) for name in runner.datasets}

    def short_form_row(self, value: str, students: Mapping[int, Path], stats: Mapping[str, float]) -> AblationRow:
        """Row of students by seed on the short-form datasets; adds parameter counts to `stats`."""
        datasets = [dataset for dataset in self._runner.datasets.values() if not dataset.spec.full_recordings]
        mode = DecodeMode(batch_size=self._runner.settings.batch_size)
        outputs: dict[str, dict[int, SystemOutput]] = {dataset.name: {} for dataset in datasets}
        for seed, path in students.items():
            student = self._load(path)
            for dataset in datasets:
                outputs[dataset.name][seed] = self._transcribe(student, dataset, mode)
            info = student.info
        sizes = {"parameters": float(info.parameters), "parameters_decoder": float(info.parameters_decoder)}
        return self._build_row(value, outputs, {**stats, **sizes})

    def chunk_length_row(self, chunk_length: float, student_path: Path, seed: int) -> AblationRow:
        """Error rates of a student, trained with `seed`, on full recordings in chunks of `chunk_length` seconds."""
        mode = DecodeMode("chunked", chunk_length, self._runner.settings.batch_size)
        student = self._load(student_path)
        datasets = [dataset for dataset in self._runner.datasets.values() if dataset.spec.full_recordings]
        outputs = {dataset.name: {seed: self._transcribe(student, dataset, mode)} for dataset in datasets}
        return self._build_row(f"{chunk_length:g}", outputs, {})

    def add_relative_speed(self, rows: Sequence[AblationRow], students: Sequence[Path]) -> list[AblationRow]:
        """The rows with each student's speed relative to the teacher: a window and 24 tokens at batch 1."""
        teacher = self._runner.select_own_systems()["teacher"]
        networks = {"teacher": teacher.model.network}
        networks |= {str(index): self._load(path).model.network for index, path in enumerate(students)}
        teacher_speed, *student_speeds = measure_speed(networks, rounds=SPEED_ROUNDS)
        faster_rows = []
        for row, speed in zip(rows, student_speeds, strict=True):
            stats = {
                "relative_speed": teacher_speed.latency_ms / speed.latency_ms,
                "relative_decoder_speed": teacher_speed.decoder_ms_per_token / speed.decoder_ms_per_token,
            }
            faster_rows.append(replace(row, stats=row.stats | stats))
        return faster_rows

    def datasets_in_mean(self, names: Sequence[str]) -> list[str]:
        """Datasets that a mean covers: those out of distribution, or all if there are none."""
        return [name for name in names if name not in self._in_distribution] or list(names)

    def _load(self, path: Path) -> WhisperstillSystem:
        return WhisperstillSystem("student", str(path), "student", self._runner.device, self._runner.dtype, False)

    def _transcribe(self, student: WhisperstillSystem, dataset: EvalDataset, mode: DecodeMode) -> SystemOutput:
        output = self._runner.transcribe(student, dataset, mode, self._encoder_caches[dataset.name])
        if output is None:
            raise SettingsError(self._runner.failures.first())
        return output

    def _build_row(
        self, value: str, outputs: Mapping[str, Mapping[int, SystemOutput]], stats: Mapping[str, float]
    ) -> AblationRow:
        """Row from outputs by dataset and seed."""
        wer = {
            name: {str(seed): 100 * sum(output.edits, NO_EDITS).error_rate for seed, output in by_seed.items()}
            for name, by_seed in outputs.items()
        }
        blocks = [[output.blocks for output in outputs[name].values()] for name in self.datasets_in_mean(list(outputs))]
        mean, interval = mean_over_datasets(blocks, resamples=self._runner.settings.bootstrap_resamples)
        return AblationRow(value, wer, mean, *interval, dict(stats))
