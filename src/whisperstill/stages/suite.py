"""What `evaluate --suite` does: every cell of every measurement, each once, and results.json.

A cell (a model, a set, a way of decoding, a condition of the sound) is kept as soon as it is heard, under a hash of
all that it depends on; a suite that was stopped goes on with the next one. A model, a set or a cell that fails is
noted in the findings, and the rest goes on.
"""

import json
import logging
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import SettingsError, WhisperstillError
from whisperstill.records import Skipped
from whisperstill.records.eval_results import DatasetInfo, EvalResults, Failure
from whisperstill.records.serialization import to_dict
from whisperstill.stages.console import Console
from whisperstill.stages.suite_datasets import EvalDataset, load_dataset
from whisperstill.stages.suite_spec import Suite, read_suite
from whisperstill.versions import package_versions

if TYPE_CHECKING:
    from whisperstill.evaluate.encoder_cache import EncoderCache
    from whisperstill.evaluate.inference import AudioTransform
    from whisperstill.evaluate.metrics import SystemOutput
    from whisperstill.evaluate.systems import DecodeMode, System
    from whisperstill.stages.evaluate import EvaluateSettings
    from whisperstill.stages.result_cache import ResultCache

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteReport:
    """What came of a suite."""

    output: str
    num_results: int
    num_decoded: int
    """Cells decoded in this run."""
    num_cached: int
    """Cells found finished."""
    problems: tuple[Skipped, ...]
    """What failed or was left out."""


@dataclass
class SuiteRunner:
    """What the measurements of a suite share."""

    suite: Suite
    settings: "EvaluateSettings"
    console: Console
    result_cache: "ResultCache"
    device: str
    dtype: Any
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Utterances that could not be heard, and why."""
    systems: "dict[str, System]" = field(default_factory=dict)
    datasets: dict[str, EvalDataset] = field(default_factory=dict)
    encoder_caches: "dict[str, EncoderCache]" = field(default_factory=dict)
    """Encoder states by set, for those who measure many models one after the other."""
    outputs: "dict[str, dict[str, SystemOutput]]" = field(default_factory=dict)
    """What models heard of windows as they are, by set, then by model."""
    num_decoded: int = 0
    num_cached: int = 0
    cached_by_threads: Counter[int] = field(default_factory=Counter)
    """Of cells that were found finished: with how many threads they were heard."""

    def open(self) -> None:
        """Read the sets and the models; what cannot be read is a failure."""
        for name, spec in self.suite.datasets.items():
            with self.record_failure(f"dataset {name}"):
                self.datasets[name], notes = load_dataset(name, spec, self.settings)
                self.skipped |= notes
        for name in self.suite.models:
            with self.record_failure(f"model {name}"):
                self.systems[name] = self._build_system(name)
        if not self.systems or (self.suite.datasets and not self.datasets):
            raise SettingsError(f"nothing could be measured: {self.failures[0].subject}: {self.failures[0].reason}")

    def _build_system(self, name: str) -> "System":
        from whisperstill.evaluate.systems import ExternalSystem, WhisperstillSystem
        from whisperstill.model.device import choose_dtype

        spec = self.suite.models[name]
        if spec.engine == "whisperstill":
            if spec.dtype == "float16":
                raise SettingsError("our engine computes in float32, bfloat16 or int8, got float16")
            int8 = spec.dtype == "int8"
            dtype = self.dtype if int8 or spec.dtype == "auto" else choose_dtype(spec.dtype, self.device)
            return WhisperstillSystem(name, spec.model, spec.role, self.device, dtype, self.settings.trim_padding, int8)
        cache = (self.settings.output or self.suite.output) / "converted"
        return ExternalSystem(name, spec.model, spec.role, spec.engine, self.settings.device, spec.dtype, cache)

    def record_failure(self, subject: str) -> "RecordFailure":
        """Around a part that may fail without the rest."""
        return RecordFailure(self, subject)

    def select_models(self, requested: Sequence[str]) -> list[str]:
        """Those named, by name or role, or all; those that could be read, the teacher first."""
        available = {name: spec for name, spec in self.suite.models.items() if name in self.systems}
        names = [
            name for name, spec in available.items() if not requested or name in requested or spec.role in requested
        ]
        return sorted(names, key=lambda name: name != self.suite.teacher)

    def select_datasets(self, requested: Sequence[str], predicate: Callable[[EvalDataset], bool]) -> list[EvalDataset]:
        """Those named, or all that satisfy `predicate`; those that could be read."""
        names = requested or [name for name, dataset in self.datasets.items() if predicate(dataset)]
        return [self.datasets[name] for name in names if name in self.datasets]

    def transcribe_dataset(
        self,
        model: str,
        dataset: EvalDataset,
        decode_mode: "DecodeMode",
        encoder_cache: "EncoderCache",
        condition: str = "",
        audio_transform: "AudioTransform | None" = None,
        transform_identity: Mapping[str, Any] | None = None,
    ) -> "SystemOutput | None":
        """What a model hears in a set; found again where it was heard before. None where that fails.
        `transform_identity` is all that the `audio_transform` depends on, `condition` its name."""
        import torch

        from whisperstill.audio.vad import create_detector
        from whisperstill.evaluate.metrics import in_corpus_order

        system = self.systems[model]
        title = " ".join(filter(None, (model, "on", dataset.name, decode_mode.decoding, condition)))
        with self.record_failure(title):
            key = self.result_cache.compute_key(
                **system.identity,
                corpus=dataset.sha256,
                decode_mode=asdict(decode_mode),
                vad=type(create_detector()).__name__ if decode_mode.options else "",
                audio_transform=dict(transform_identity or {}),
            )
            entry = self.result_cache.get(key)
            if entry is None:
                hours = sum(utterance.audio.duration for utterance in dataset.utterances) / 3600
                with self.console.progress(title, hours, "h") as bar:
                    output = system.transcribe(
                        dataset.utterances,
                        decode_mode,
                        encoder_cache,
                        audio_transform,
                        lambda seconds: bar.advance(seconds / 3600),
                    )
                entry = {
                    "texts": output.texts,
                    "seconds": output.seconds,
                    "threads": torch.get_num_threads(),
                    "skipped": [asdict(problem) for problem in output.skipped],
                }
                self.result_cache.put(key, entry)
                self.num_decoded += 1
            else:
                self.num_cached += 1
                self.cached_by_threads[entry.get("threads", 0)] += 1
            self.skipped |= {problem["source"]: problem["reason"] for problem in entry["skipped"]}
            return in_corpus_order(dataset.utterances, entry["texts"], entry["seconds"], dataset.scoring)
        return None


class RecordFailure:
    """Turns what is raised inside into a failure of the suite; what nobody foresaw is logged with its traceback."""

    def __init__(self, runner: SuiteRunner, subject: str) -> None:
        self._runner, self._subject = runner, subject

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        reason = str(error) if isinstance(error, WhisperstillError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, WhisperstillError):
            log.warning("%s failed", self._subject, exc_info=error)
        self._runner.failures.append(Failure(self._subject, " ".join(reason.split())))
        self._runner.console.warn(f"{self._subject}: {reason}")
        return True


def run_suite(settings: "EvaluateSettings", console: Console) -> SuiteReport:
    """Carry out a suite, or finish it; writes results.json, report.md and, with the extra `report`, report.html.

    Raises `SettingsError` for a suite that cannot be, and when nothing of it could be measured.
    """
    assert settings.suite is not None
    suite = read_suite(settings.suite, settings.model)
    output = settings.output or suite.output
    started_at = datetime.now(UTC)

    import torch

    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.result_cache import ResultCache
    from whisperstill.stages.suite_measurements import MEASUREMENT_FUNCTIONS

    device = choose_device(settings.device)
    runner = SuiteRunner(suite, settings, console, ResultCache(output), device, choose_dtype(settings.dtype, device))
    runner.open()
    records: dict[str, list[Any]] = {}
    for name, measure in MEASUREMENT_FUNCTIONS.items():
        table = getattr(suite, name)
        if table is None:
            continue
        with runner.record_failure(name.replace("_", " ")):
            for field_name, record in measure(runner, table):
                records.setdefault(field_name, []).append(record)
    if not records:
        first_failure = next(iter(runner.failures), Failure("no dataset", "is of the kind that the measurements hear"))
        raise SettingsError(f"nothing could be measured: {first_failure.subject}: {first_failure.reason}")
    for threads, count in runner.cached_by_threads.items():
        if threads not in (0, torch.get_num_threads()):  # 0: an older version did not tell
            console.warn(
                f"{count} results were heard with {threads} threads before, not {torch.get_num_threads()}: their times "
                "are of then; name another --output to measure them anew"
            )
    results = EvalResults(
        name=suite.name,
        provenance=_provenance(runner, output, started_at),
        models=tuple(system.info for system in runner.systems.values()),
        datasets=tuple(_dataset_info(dataset) for dataset in runner.datasets.values()),
        failures=tuple(runner.failures) + tuple(Failure(subject, reason) for subject, reason in runner.skipped.items()),
    )
    results = replace(results, **{field_name: tuple(values) for field_name, values in records.items()})  # type: ignore[arg-type]
    atomic_write(output / "results.json", json.dumps(to_dict(results), indent=1, ensure_ascii=False) + "\n")
    render_results(results, output, console)
    problems = tuple(Skipped(failure.subject, failure.reason) for failure in results.failures)
    return SuiteReport(str(output), len(results.results), runner.num_decoded, runner.num_cached, problems)


def render_results(results: EvalResults, output: Path, console: Console) -> None:
    """The findings rendered beside results.json."""
    from whisperstill.stages.report import ReportSettings
    from whisperstill.stages.report import run as render

    render(ReportSettings(output / "results.json"), console)
    for failure in results.failures[:20]:
        console.warn(f"{failure.subject}: {failure.reason}")
    if len(results.failures) > 20:
        console.warn(f"and {len(results.failures) - 20} more; results.json lists them")


def _dataset_info(dataset: EvalDataset) -> DatasetInfo:
    seconds = sum(utterance.audio.duration for utterance in dataset.utterances)
    return DatasetInfo(
        name=dataset.name,
        manifest=dataset.spec.manifest,
        sha256=dataset.sha256,
        utterances=len(dataset.utterances),
        hours=seconds / 3600,
        words=sum(len(dataset.scoring.split(utterance.text or "")) for utterance in dataset.utterances),
        language=dataset.language,
        normalizer=dataset.scoring.normalizer,
        unit=dataset.scoring.unit,
        in_distribution=dataset.spec.in_distribution,
        long_form=dataset.is_long_form,
        non_speech=dataset.spec.non_speech,
    )


def _provenance(runner: SuiteRunner, output: Path, started_at: datetime) -> dict[str, Any]:
    import torch

    content: Mapping[str, Any] = runner.suite.content
    return {
        **package_versions(),
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(runner.device) if runner.device.startswith("cuda") else "cpu",
        "dtype": str(runner.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "command": shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "whisperstill"), *sys.argv[1:]]),
        "suite_sha256": runner.result_cache.digest(json.dumps(content, sort_keys=True).encode()),
        "started": started_at.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "results_decoded": runner.num_decoded,
        "results_cached": runner.num_cached,
        "results_cached_by_threads": {
            str(threads): count for threads, count in sorted(runner.cached_by_threads.items())
        },
    }


def processor_name() -> str:
    """What the processor calls itself, as far as the system tells."""
    for line in _cpu_lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_lines() -> Iterator[str]:
    try:
        yield from Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return
