"""What `evaluate --suite` does: every cell of every measurement, each once, and findings.json.

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

from whisperstill.errors import SettingsError, WhisperstillError
from whisperstill.files import write_whole
from whisperstill.records import Skipped
from whisperstill.records.findings import Failure, Findings, SetMeasured
from whisperstill.records.plain import to_plain
from whisperstill.stages.console import Console
from whisperstill.stages.run import made_with
from whisperstill.stages.suite_file import Suite, read_suite
from whisperstill.stages.suite_sets import Corpus, read_set

if TYPE_CHECKING:
    from whisperstill.evaluate.contenders import Contender, Way
    from whisperstill.evaluate.hypotheses import Change
    from whisperstill.evaluate.measure import Heard
    from whisperstill.evaluate.shelf import Shelf
    from whisperstill.stages.evaluate import EvaluateSettings
    from whisperstill.stages.outcomes import Outcomes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteReport:
    """What came of a suite."""

    output: str
    cells: int
    decoded: int
    """Cells decoded in this run."""
    resumed: int
    """Cells found finished."""
    problems: tuple[Skipped, ...]
    """What failed or was left out."""


@dataclass
class Bench:
    """What the measurements of a suite share."""

    suite: Suite
    settings: "EvaluateSettings"
    console: Console
    outcomes: "Outcomes"
    device: str
    dtype: Any
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Utterances that could not be heard, and why."""
    contenders: "dict[str, Contender]" = field(default_factory=dict)
    corpora: dict[str, Corpus] = field(default_factory=dict)
    shelves: "dict[str, Shelf]" = field(default_factory=dict)
    """Encoder states by set, for those who measure many models one after the other."""
    heard: "dict[str, dict[str, Heard]]" = field(default_factory=dict)
    """What models heard of windows as they are, by set, then by model."""
    decoded: int = 0
    resumed: int = 0
    timed_with: Counter[int] = field(default_factory=Counter)
    """Of cells that were found finished: with how many threads they were heard."""

    def open(self) -> None:
        """Read the sets and the models; what cannot be read is a failure."""
        for name, asked in self.suite.sets.items():
            with self.noting(f"set {name}"):
                self.corpora[name], notes = read_set(name, asked, self.settings)
                self.skipped |= notes
        for name in self.suite.models:
            with self.noting(f"model {name}"):
                self.contenders[name] = self._contender(name)
        if not self.contenders or (self.suite.sets and not self.corpora):
            raise SettingsError(f"nothing could be measured: {self.failures[0].what}: {self.failures[0].reason}")

    def _contender(self, name: str) -> "Contender":
        from whisperstill.evaluate.contenders import Other, Own
        from whisperstill.model.device import choose_dtype

        asked = self.suite.models[name]
        if asked.engine == "whisperstill":
            if asked.dtype == "fp16":
                raise SettingsError("our engine computes in fp32, bf16 or int8, got fp16")
            int8 = asked.dtype == "int8"
            dtype = self.dtype if int8 or asked.dtype == "auto" else choose_dtype(asked.dtype, self.device)
            return Own(name, asked.model, asked.role, self.device, dtype, self.settings.true_length, int8)
        cache = (self.settings.output or self.suite.output) / "converted"
        return Other(name, asked.model, asked.role, asked.engine, self.settings.device, asked.dtype, cache)

    def noting(self, what: str) -> "Noting":
        """Around a part that may fail without the rest."""
        return Noting(self, what)

    def models(self, named: Sequence[str]) -> list[str]:
        """Those named, by name or role, or all; those that could be read, the teacher first."""
        there = {name: one for name, one in self.suite.models.items() if name in self.contenders}
        names = [name for name, one in there.items() if not named or name in named or one.role in named]
        return sorted(names, key=lambda name: name != self.suite.teacher)

    def sets(self, named: Sequence[str], wanted: Callable[[Corpus], bool]) -> list[Corpus]:
        """Those named, or all that are `wanted`; those that could be read."""
        names = named or [name for name, one in self.corpora.items() if wanted(one)]
        return [self.corpora[name] for name in names if name in self.corpora]

    def hear(
        self,
        model: str,
        corpus: Corpus,
        way: "Way",
        shelf: "Shelf",
        condition: str = "",
        change: "Change | None" = None,
        changed: Mapping[str, Any] | None = None,
    ) -> "Heard | None":
        """What a model hears in a set; found again where it was heard before. None where that fails. `changed` is all
        that the `change` depends on, `condition` its name."""
        import torch

        from whisperstill.audio.voice import detector_of
        from whisperstill.evaluate.measure import ordered

        contender = self.contenders[model]
        what = " ".join(filter(None, (model, "on", corpus.name, way.decoding, condition)))
        with self.noting(what):
            key = self.outcomes.key(
                **contender.identity,
                corpus=corpus.sha256,
                way=asdict(way),
                voice=type(detector_of()).__name__ if way.options else "",
                changed=dict(changed or {}),
            )
            outcome = self.outcomes.find(key)
            if outcome is None:
                hours = sum(one.audio.duration for one in corpus.utterances) / 3600
                with self.console.progress(what, hours, "h") as bar:
                    heard = contender.hear(
                        corpus.utterances, way, shelf, change, lambda seconds: bar.advance(seconds / 3600)
                    )
                outcome = {
                    "texts": heard.texts,
                    "seconds": heard.seconds,
                    "threads": torch.get_num_threads(),
                    "skipped": [asdict(one) for one in heard.skipped],
                }
                self.outcomes.keep(key, outcome)
                self.decoded += 1
            else:
                self.resumed += 1
                self.timed_with[outcome.get("threads", 0)] += 1
            self.skipped |= {one["source"]: one["reason"] for one in outcome["skipped"]}
            return ordered(corpus.utterances, outcome["texts"], outcome["seconds"], corpus.scoring)
        return None


class Noting:
    """Turns what is raised inside into a failure of the suite; what nobody foresaw is logged with its traceback."""

    def __init__(self, bench: Bench, what: str) -> None:
        self._bench, self._what = bench, what

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        reason = str(error) if isinstance(error, WhisperstillError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, WhisperstillError):
            log.warning("%s failed", self._what, exc_info=error)
        self._bench.failures.append(Failure(self._what, " ".join(reason.split())))
        self._bench.console.warn(f"{self._what}: {reason}")
        return True


def run_suite(settings: "EvaluateSettings", console: Console) -> SuiteReport:
    """Carry out a suite, or finish it; writes findings.json, report.md and, with the extra `report`, report.html.

    Raises `SettingsError` for a suite that cannot be, and when nothing of it could be measured.
    """
    assert settings.suite is not None
    suite = read_suite(settings.suite, settings.model)
    output = settings.output or suite.output
    begun = datetime.now(UTC)

    import torch

    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.measurements import MEASURES
    from whisperstill.stages.outcomes import Outcomes

    device = choose_device(settings.device)
    bench = Bench(suite, settings, console, Outcomes(output), device, choose_dtype(settings.dtype, device))
    bench.open()
    parts: dict[str, list[Any]] = {}
    for name, measure in MEASURES.items():
        table = getattr(suite, name)
        if table is None:
            continue
        with bench.noting(name.replace("_", " ")):
            for part, found in measure(bench, table):
                parts.setdefault(part, []).append(found)
    if not parts:
        first = next(iter(bench.failures), Failure("no set", "is of the kind that the measurements hear"))
        raise SettingsError(f"nothing could be measured: {first.what}: {first.reason}")
    for threads, cells in bench.timed_with.items():
        if threads not in (0, torch.get_num_threads()):  # 0: an older version did not tell
            console.warn(
                f"{cells} cells were heard with {threads} threads before, not {torch.get_num_threads()}: their times "
                "are of then; name another --output to measure them anew"
            )
    findings = Findings(
        name=suite.name,
        provenance=_provenance(bench, output, begun),
        models=tuple(one.measured for one in bench.contenders.values()),
        sets=tuple(_described(one) for one in bench.corpora.values()),
        failures=tuple(bench.failures) + tuple(Failure(what, why) for what, why in bench.skipped.items()),
    )
    findings = replace(findings, **{part: tuple(found) for part, found in parts.items()})  # type: ignore[arg-type]
    write_whole(output / "findings.json", json.dumps(to_plain(findings), indent=1, ensure_ascii=False) + "\n")
    show(findings, output, console)
    problems = tuple(Skipped(one.what, one.reason) for one in findings.failures)
    return SuiteReport(str(output), len(findings.cells), bench.decoded, bench.resumed, problems)


def show(findings: Findings, output: Path, console: Console) -> None:
    """The findings rendered beside findings.json."""
    from whisperstill.stages.report import ReportSettings
    from whisperstill.stages.report import run as render

    render(ReportSettings(output / "findings.json"), console)
    for failure in findings.failures[:20]:
        console.warn(f"{failure.what}: {failure.reason}")
    if len(findings.failures) > 20:
        console.warn(f"and {len(findings.failures) - 20} more; findings.json lists them")


def _described(corpus: Corpus) -> SetMeasured:
    seconds = sum(one.audio.duration for one in corpus.utterances)
    return SetMeasured(
        name=corpus.name,
        manifest=corpus.asked.manifest,
        sha256=corpus.sha256,
        utterances=len(corpus.utterances),
        hours=seconds / 3600,
        words=sum(len(corpus.scoring.split(one.text or "")) for one in corpus.utterances),
        language=corpus.language,
        normaliser=corpus.scoring.normaliser,
        unit=corpus.scoring.unit,
        in_distribution=corpus.asked.in_distribution,
        long=corpus.long,
        non_speech=corpus.asked.non_speech,
    )


def _provenance(bench: Bench, output: Path, begun: datetime) -> dict[str, Any]:
    import torch

    content: Mapping[str, Any] = bench.suite.content
    return {
        **made_with(),
        "processor": processor(),
        "device": torch.cuda.get_device_name(bench.device) if bench.device.startswith("cuda") else "cpu",
        "dtype": str(bench.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "command": shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "whisperstill"), *sys.argv[1:]]),
        "suite_sha256": bench.outcomes.digest(json.dumps(content, sort_keys=True).encode()),
        "begun": begun.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "cells_decoded": bench.decoded,
        "cells_found": bench.resumed,
        "cells_found_by_threads": {str(threads): cells for threads, cells in sorted(bench.timed_with.items())},
    }


def processor() -> str:
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
