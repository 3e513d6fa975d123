"""Writes the report of an evaluation, and its main tables for a terminal."""

from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console
from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.markdown import render_markdown
from whisperstill.evaluate.report.page import render_page
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import EvalResults


def write_report(results: EvalResults, folder: Path, console: Console, *, audio: bool = True) -> list[Path]:
    """Writes report.md and, with the extra `report`, report.html; returns their paths.

    `audio` embeds the audio of error examples in the page.
    """
    written = [folder / "report.md"]
    atomic_write(written[0], render_markdown(results))
    try:
        atomic_write(folder / "report.html", render_page(results, audio=audio))
        written.append(folder / "report.html")
    except MissingExtraError as error:
        console.info(str(error))
    return written


def show_results(results: EvalResults, console: Console) -> None:
    """Shows size, error rates and speed of all models as tables."""
    for section in build_sections(ResultsView(results)):
        if section.id in ("headline", "short-form", "speed"):
            table = section.tables[-1]
            rows = [[str(cell) for cell in row.cells] for row in table.rows]
            padded_rows = [row + [""] * (len(table.columns) - len(row)) for row in rows]  # a group heading is one cell
            console.table(table.title, [column.title for column in table.columns], padded_rows)
