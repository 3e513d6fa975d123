"""report: what a suite found, as a page that opens from disk, as Markdown, as a model card."""

from dataclasses import dataclass
from pathlib import Path

from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.files import write_whole
from whisperstill.records.findings import Findings
from whisperstill.stages.compare import read_findings
from whisperstill.stages.console import Console


@dataclass(frozen=True)
class ReportSettings:
    """Render the findings of `evaluate --suite`."""

    findings: Path
    """findings.json, or its folder."""
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

    Raises `NotFoundError` or `SettingsError` for what is no findings.json, `SettingsError` for a card of a model that
    was not measured.
    """
    findings = read_findings(settings.findings)
    beside = settings.findings if settings.findings.is_dir() else settings.findings.parent
    output = settings.output or beside
    written = [write_tables(findings, output / "report.md")]
    try:
        from whisperstill.evaluate.report import render_page

        write_whole(output / "report.html", render_page(findings, audio=settings.audio))
        written.append(output / "report.html")
    except MissingExtraError as error:
        console.warn(str(error))
    if settings.card is not None:
        written.append(_card(findings, settings.card, output))
    for path in written:
        console.info(f"written: {path}")
    return ReportReport(tuple(map(str, written)))


def write_tables(findings: Findings, path: Path) -> Path:
    """The findings' tables as Markdown."""
    from whisperstill.evaluate.report import render_markdown

    write_whole(path, render_markdown(findings))
    return path


def _card(findings: Findings, name: str, output: Path) -> Path:
    from whisperstill.evaluate.report import render_card

    model = next((one for one in findings.models if one.name == name), None)
    if model is None:
        known = ", ".join(one.name for one in findings.models)
        raise SettingsError(f"card: expected one of the models measured ({known}), got {name}")
    folder = Path(model.source)
    inside = folder / "README.md"
    path = inside if folder.is_dir() and not inside.exists() else output / f"card-{name}.md"
    write_whole(path, render_card(findings, name))
    return path
