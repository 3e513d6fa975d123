"""The report as one self-contained HTML page (no network access, no script), in files, and on the terminal."""

import re
from itertools import groupby
from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console
from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.audio_examples import (
    describe_draft,
    describe_example,
    embed_audio,
    group_alignment_ops,
)
from whisperstill.evaluate.report.markdown import render_markdown
from whisperstill.evaluate.report.plots import render_svg
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.summary import build_summary
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import EvalResults


def render_page(eval_results: EvalResults, *, audio: bool = True) -> str:
    """The page as HTML. With `audio` it embeds the audio of the error examples, about 5 kB per second.

    The same results and recordings give the same page. Raises `MissingExtraError` without jinja2 or matplotlib.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("the report page", "report") from error

    environment = Environment(
        loader=PackageLoader("whisperstill.evaluate.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "describe_draft": describe_draft,
        "describe_example": describe_example,
        "group_alignment_ops": group_alignment_ops,
        "keep_units_together": _keep_units_together,
        "pluralize": fmt.pluralize,
        "svg": lambda chart: Markup(render_svg(chart)),
    }
    view, examples = ResultsView(eval_results), eval_results.error_examples
    sections = build_sections(view)
    return environment.get_template("page.html").render(
        view=view,
        results=eval_results,
        facts=_header_facts(view),
        summary=build_summary(view),
        sections=sections,
        contents=[(heading, list(members)) for heading, members in groupby(sections, lambda s: s.toc_heading)],
        audio_examples=embed_audio(examples) if audio else [(example, "", "") for example in examples],
        languages={dataset.name: dataset.language for dataset in view.datasets},
    )


def _keep_units_together(text: str) -> str:
    """The text with non-breaking spaces between numbers and units."""
    return re.sub(r"(?<=[\d)]) (?=(?:%|dB|s|ms|M|kbit/s)(?!\w))", "\u00a0", text)


def _header_facts(view: ResultsView) -> str:
    """Size of the evaluation, machine and date; what is zero or unknown is left out."""
    hours = fmt.number(sum(dataset.hours for dataset in view.datasets))
    counts = (fmt.pluralize(len(view.models), "model"), fmt.pluralize(len(view.datasets), "dataset"))
    processor, dtype, ended = (view.eval_results.provenance.get(key) for key in ("processor", "dtype", "ended"))
    facts = (*counts, f"{hours} hours of audio", processor, dtype, str(ended or "")[:10])
    return " · ".join(str(fact) for fact in facts if fact and not str(fact).startswith("0"))


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
            rows = [[*map(str, row), *[""] * (len(table.columns) - len(row))] for row in table.rows]
            console.table(table.title, table.columns, rows)
