"""Runs transcriptions for a suite: loads systems and datasets, caches results, records failures.

A result (system, dataset, decode mode, condition) is cached as soon as it is there, so a suite that was stopped
resumes with the next one. A model, dataset or measurement that fails is recorded, and the others run.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write
from whisperstill.audio.vad import create_detector
from whisperstill.console import Console
from whisperstill.errors import SettingsError, WhisperstillError
from whisperstill.evaluate.metrics import SystemOutput, in_corpus_order
from whisperstill.evaluate.suite.datasets import EvalDataset, load_dataset
from whisperstill.evaluate.suite.spec import EvaluateSettings, Suite
from whisperstill.evaluate.systems import (
    DecodeMode,
    EncoderCache,
    ExternalSystem,
    Hypotheses,
    System,
    WhisperstillSystem,
)
from whisperstill.model.device import choose_device, choose_dtype
from whisperstill.records.eval_results import Failure
from whisperstill.records.json_value import JsonValue
from whisperstill.records.serialization import DataclassInstance, read_record

log = logging.getLogger(__name__)

Entry = TypeVar("Entry")


class ResultCache:
    """Finished transcriptions and timings in `folder/cache`, one JSON file each, under a hash of all they depend on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "cache"

    @staticmethod
    def compute_key(**inputs: JsonValue) -> str:
        """Hash of everything that a result depends on, whisperstill's version included."""
        return hashlib.sha256(json.dumps({**inputs, "version": __version__}, sort_keys=True).encode()).hexdigest()

    def get(self, key: str, entry_type: type[Entry]) -> Entry | None:
        """The entry under a key; None where there is none, or its file is damaged."""
        return read_record(self._folder / f"{key}.json", entry_type)

    def put(self, key: str, entry: DataclassInstance) -> None:
        """Stores an entry."""
        atomic_write(self._folder / f"{key}.json", json.dumps(asdict(entry), ensure_ascii=False))


class FailureLog:
    """Failed parts of a suite and skipped utterances, each with the reason."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._skipped: dict[str, str] = {}
        self.failed: list[Failure] = []

    def all(self) -> tuple[Failure, ...]:
        """Failed parts, then skipped utterances."""
        return (*self.failed, *(Failure(subject, reason) for subject, reason in self._skipped.items()))

    def skip(self, reasons: Mapping[str, str]) -> None:
        """Records skipped utterances and notes: subject -> reason."""
        self._skipped |= reasons

    @contextmanager
    def record(self, subject: str) -> Iterator[None]:
        """Turns an exception inside into a failure of `subject`; unexpected ones are logged with their traceback."""
        try:
            yield
        except Exception as error:
            reason = str(error)
            if not isinstance(error, WhisperstillError):
                reason = f"{type(error).__name__}: {error}"
                log.warning("%s failed", subject, exc_info=error)
            self.failed.append(Failure(subject, " ".join(reason.split())))
            self._console.warn(f"{subject}: {reason}")

    def first(self) -> str:
        """The first failure in one line."""
        if not self.failed:
            return "no dataset fits the measurements"
        return f"{self.failed[0].subject}: {self.failed[0].reason}"


class SuiteRunner:
    """Systems, datasets and cached transcriptions of a suite."""

    def __init__(self, suite: Suite, settings: EvaluateSettings, console: Console) -> None:
        """Loads datasets and checkpoints; those that cannot be read are failures.

        Raises `SettingsError` if nothing is left.
        """
        self.suite, self.settings, self.console = suite, settings, console
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        self.result_cache = ResultCache(suite.output)
        self.failures = FailureLog(console)
        self.num_decoded = 0
        """Transcriptions of this run."""
        self.cached_by_threads: Counter[int] = Counter()
        """Transcriptions from the cache, by the number of threads they ran with."""
        self.datasets: dict[str, EvalDataset] = {}
        self.systems: dict[str, System] = {}
        self.short_outputs: dict[str, dict[str, SystemOutput]] = {}
        """Transcriptions of unchanged windows: dataset -> system -> output."""
        for name, spec in suite.datasets.items():
            with self.failures.record(f"dataset {name}"):
                self.datasets[name], notes = load_dataset(name, spec, settings)
                self.failures.skip(notes)
        for name in suite.models:
            with self.failures.record(f"model {name}"):
                self.systems[name] = self._build_system(name)
        if not self.systems or (suite.datasets and not self.datasets):
            raise SettingsError(f"nothing could be measured: {self.failures.first()}")

    def _build_system(self, name: str) -> System:
        spec = self.suite.models[name]
        if spec.engine != "whisperstill":
            device, cache = self.settings.device, self.suite.output / "converted"
            return ExternalSystem(name, spec.model, spec.role, spec.engine, device, spec.dtype, cache)
        if spec.dtype == "float16":
            raise SettingsError("dtype: expected float32, bfloat16 or int8 for the engine whisperstill, got float16")
        int8 = spec.dtype == "int8"
        dtype = self.dtype if int8 or spec.dtype == "auto" else choose_dtype(spec.dtype, self.device)
        return WhisperstillSystem(name, spec.model, spec.role, self.device, dtype, self.settings.trim_padding, int8)

    def select_models(self, requested: Sequence[str] = ()) -> list[str]:
        """Systems by name or role (default: all) that could be loaded, the teacher first."""
        models = self.suite.models
        names = [name for name in self.systems if not requested or {name, models[name].role} & {*requested}]
        return sorted(names, key=lambda name: name != self.suite.teacher)

    def select_own_systems(self, requested: Sequence[str] = ()) -> dict[str, WhisperstillSystem]:
        """Selected systems that run in whisperstill."""
        selected = {name: self.systems[name] for name in self.select_models(requested)}
        return {name: system for name, system in selected.items() if isinstance(system, WhisperstillSystem)}

    def select_datasets(self, requested: Sequence[str], kind: str) -> list[EvalDataset]:
        """Datasets by name (default: all of a kind) that could be read."""
        names = requested or [name for name, dataset in self.datasets.items() if dataset.kind == kind]
        return [self.datasets[name] for name in names if name in self.datasets]

    def transcribe(
        self, system: System, dataset: EvalDataset, mode: DecodeMode, encoder_cache: EncoderCache
    ) -> SystemOutput | None:
        """Output of a system on a dataset, from the cache where it is there. None (and a failure) if it fails."""
        name = system.info.name
        title = f"{name} on {dataset.name} {mode.decoding} {dataset.condition.label}".rstrip()
        output: SystemOutput | None = None
        with self.failures.record(title):
            # 1. Look up everything that the texts depend on.
            key = self.result_cache.compute_key(
                **system.identity,
                corpus=dataset.sha256,
                decode_mode=asdict(mode),
                vad=type(create_detector()).__name__ if mode.options else "",
                audio_transform=dict(dataset.condition.identity),
            )
            entry = self.result_cache.get(key, Hypotheses)
            # 2. Transcribe if it is not there.
            if entry is None:
                with self.console.progress(title, dataset.seconds / 3600, "h") as bar:
                    entry = system.transcribe_dataset(
                        dataset.utterances,
                        mode,
                        encoder_cache,
                        dataset.condition.transform,
                        lambda seconds: bar.advance(seconds / 3600),
                    )
                self.result_cache.put(key, entry)
                self.num_decoded += 1
            else:
                self.cached_by_threads[entry.threads] += 1
            # 3. Order texts as the corpus is; scores are computed anew each time.
            self.failures.skip({problem.source: problem.reason for problem in entry.skipped})
            output = in_corpus_order(dataset.utterances, entry.texts, entry.seconds, dataset.scoring)
            if mode.decoding == "short" and not dataset.condition.label:
                self.short_outputs.setdefault(dataset.name, {})[name] = output
        return output
