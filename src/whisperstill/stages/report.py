"""report: the results of an evaluation as an HTML page, as Markdown, as a model card."""

from dataclasses import dataclass
from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError
from whisperstill.records.eval_results import EvalResults
from whisperstill.records.results_file import read_eval_results


@dataclass(frozen=True)
class ReportSettings:
    """Render the results of `evaluate`."""

    results: Path
    """results.json, or its folder."""
    output: Path | None = None
    """Folder of report.html and report.md (default: beside results.json)."""
    audio: bool = True
    """Audio of error examples in the page; `--no-audio` leaves it out."""
    card: str | None = None
    """Name of a model to write a Hugging Face model card for: README.md in the model's folder, or card-NAME.md beside
    the report if there is no such folder or it has a README.md."""


@dataclass(frozen=True, slots=True)
class ReportReport:
    """Written files."""

    files: tuple[str, ...]


def run(settings: ReportSettings, console: Console = SILENT) -> ReportReport:
    """Writes report.md, report.html (extra `report`), and a model card.

    Raises `NotFoundError` or `SettingsError` for a file that is no results.json, `SettingsError` for a card of a model
    that is not in the results.
    """
    from whisperstill.evaluate.report.page import write_report

    results = read_eval_results(settings.results)
    results_folder = settings.results if settings.results.is_dir() else settings.results.parent
    output = settings.output or results_folder
    written = write_report(results, output, console, audio=settings.audio)
    if settings.card is not None:
        written.append(_write_card(results, settings.card, output))
    for path in written:
        console.info(f"written: {path}")
    return ReportReport(tuple(map(str, written)))


def _write_card(results: EvalResults, name: str, output: Path) -> Path:
    from whisperstill.evaluate.report import render_card

    model = next((candidate for candidate in results.models if candidate.name == name), None)
    if model is None:
        known = ", ".join(candidate.name for candidate in results.models)
        raise SettingsError(f"card: expected one of the evaluated models ({known}), got {name}")
    folder = Path(model.source)
    readme = folder / "README.md"
    path = readme if folder.is_dir() and not readme.exists() else output / f"card-{name}.md"
    atomic_write(path, render_card(results, name))
    return path
