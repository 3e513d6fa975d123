"""evaluate: word error rate, size and speed of models on datasets, or everything that a suite file names.

`--model` and `--manifest` are short for a suite with short-form error rates and speed at batch 1; both run through
`evaluate.suite`. Each model and dataset is transcribed once and cached under a hash of everything the texts depend on.
"""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError
from whisperstill.evaluate.suite.spec import EvaluateSettings as EvaluateSettings, suite_of_manifests
from whisperstill.records import Skipped
from whisperstill.records.eval_results import DatasetResult


@dataclass(frozen=True)
class EvaluateReport:
    """Result of an evaluation; results.json in `output` has all of it."""

    output: str
    results: tuple[DatasetResult, ...]
    """Error rates, one per model, dataset, decoding and audio condition."""
    num_decoded: int
    """Results transcribed in this run."""
    num_cached: int
    """Results whose transcription was cached."""
    problems: tuple[Skipped, ...]
    """Failures and skipped utterances."""


def run(settings: EvaluateSettings, console: Console = SILENT) -> EvaluateReport:
    """Evaluates, or finishes an evaluation; writes results.json, hypotheses and the report.

    Raises `SettingsError` for invalid settings or suites, and if nothing could be measured. What fails in part is
    listed in `problems`.
    """
    _check(settings)
    from whisperstill.evaluate.report.page import show_results, write_report
    from whisperstill.evaluate.suite.run_suite import run_suite, write_hypotheses
    from whisperstill.evaluate.suite.runner import SuiteRunner
    from whisperstill.evaluate.suite.suite_file import read_suite
    from whisperstill.records.results_file import write_eval_results

    # 1. Load the suite, its models and its datasets.
    if settings.suite is not None:
        suite = read_suite(settings.suite, settings.model)
        suite = replace(suite, output=settings.output or suite.output)
        runner = SuiteRunner(suite, settings, console)
    else:
        suite = suite_of_manifests(settings)
        runner = SuiteRunner(suite, replace(settings, limit=None), console)  # `suite` has the limit
        if len(runner.systems) < len(suite.models):
            raise SettingsError(runner.failures.first())  # a model on the command line is not optional
    output = suite.output
    # 2. Measure.
    results = run_suite(runner)
    command = shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "whisperstill"), *sys.argv[1:]])
    results = replace(results, provenance={**results.provenance, "command": command})
    # 3. Write and show.
    write_eval_results(results, output)
    write_hypotheses(runner.short_outputs, output)
    for path in write_report(results, output, console):
        console.info(f"written: {path}")
    show_results(results, console)
    skipped = results.failures[len(runner.failures.failed) :]  # failed parts were shown when they failed
    for failure in skipped[:20]:
        console.warn(f"{failure.subject}: {failure.reason}")
    if len(skipped) > 20:
        console.warn(f"and {len(skipped) - 20} more; results.json lists all")
    problems = tuple(Skipped(failure.subject, failure.reason) for failure in results.failures)
    return EvaluateReport(str(output), results.results, runner.num_decoded, runner.cached_by_threads.total(), problems)


def _check(settings: EvaluateSettings) -> None:
    problems = []
    if settings.suite is not None and settings.manifest:
        problems.append("a suite names its own datasets: give either suite or manifest")
    if settings.suite is None:
        for name, expected in (("model", "at least one checkpoint"), ("manifest", "at least one dataset")):
            if not getattr(settings, name):
                problems.append(f"{name} must name {expected}")
        if settings.output is None:
            problems.append("output must name a folder")
    for name in ("batch_size", "bootstrap_resamples", "limit"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            problems.append(f"{name} must be at least 1, got {value}")
    if settings.output is not None and settings.output.exists() and not settings.output.is_dir():
        problems.append(f"output must be a folder, but {settings.output} is a file")
    if problems:
        raise SettingsError("; ".join(problems))
