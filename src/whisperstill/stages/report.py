"""report: what a suite found, as a page that opens from disk, as Markdown, as a model card."""

from dataclasses import dataclass
from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.records.eval_results import EvalResults
from whisperstill.stages.compare import read_eval_results
from whisperstill.stages.console import Console


@dataclass(frozen=True)
class ReportSettings:
    """Render the findings of `evaluate --suite`."""

    results: Path
    """results.json, or its folder."""
    output: Path | None = None
    """Folder of report.html and report.md (default: beside the findings)."""
    audio: bool = True
    """Put the worst utterances into the page, to be listened to; `--no-audio` leaves them out."""
    card: str | None = None
    """Also write a model card for the model of this name, as the hub wants it: README.md in its folder, where it is
    one without a README.md, else card-NAME.md beside the report."""


@dataclass(frozen=True, slots=True)
class ReportReport:
    """What was written."""

    files: tuple[str, ...]


def run(settings: ReportSettings, console: Console) -> ReportReport:
    """Write report.md, report.html (extra `report`), and a card.

    Raises `NotFoundError` or `SettingsError` for what is no results.json, `SettingsError` for a card of a model that
    was not measured.
    """
    results = read_eval_results(settings.results)
    results_dir = settings.results if settings.results.is_dir() else settings.results.parent
    output = settings.output or results_dir
    written = [write_markdown(results, output / "report.md")]
    try:
        from whisperstill.evaluate.report import render_page

        atomic_write(output / "report.html", render_page(results, audio=settings.audio))
        written.append(output / "report.html")
    except MissingExtraError as error:
        console.warn(str(error))
    if settings.card is not None:
        written.append(_write_card(results, settings.card, output))
    for path in written:
        console.info(f"written: {path}")
    return ReportReport(tuple(map(str, written)))


def write_markdown(results: EvalResults, path: Path) -> Path:
    """The findings' tables as Markdown."""
    from whisperstill.evaluate.report import render_markdown

    atomic_write(path, render_markdown(results))
    return path


def _write_card(results: EvalResults, name: str, output: Path) -> Path:
    from whisperstill.evaluate.report import render_card

    model = next((candidate for candidate in results.models if candidate.name == name), None)
    if model is None:
        known = ", ".join(candidate.name for candidate in results.models)
        raise SettingsError(f"card: expected one of the models measured ({known}), got {name}")
    folder = Path(model.source)
    readme = folder / "README.md"
    path = readme if folder.is_dir() and not readme.exists() else output / f"card-{name}.md"
    atomic_write(path, render_card(results, name))
    return path
