"""The report as one self-contained HTML page: no network access, no script."""

import re

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.audio_examples import build_audio_examples, describe_draft
from whisperstill.evaluate.report.blocks import Section
from whisperstill.evaluate.report.formatting import format_number, pluralize
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

    view = ResultsView(eval_results)
    sections = build_sections(view)
    contents: dict[str, list[Section]] = {}
    for section in sections:
        contents.setdefault(section.toc_heading, []).append(section)
    jinja_environment = Environment(
        loader=PackageLoader("whisperstill.evaluate.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    jinja_environment.filters["keep_units_together"] = _keep_units_together
    return jinja_environment.get_template("page.html").render(
        name=eval_results.name or "Evaluation",
        facts=_header_facts(view),
        summary=build_summary(view),
        failures=pluralize(len(eval_results.failures), "measurement") if eval_results.failures else "",
        sections=sections,
        contents=contents,
        svg_by_chart={chart.id: Markup(render_svg(chart)) for section in sections for chart in section.charts},
        audio_examples=build_audio_examples(view, audio),
        draft_traces=[(draft, describe_draft(draft)) for draft in eval_results.draft_traces],
    )


def _keep_units_together(text: str) -> str:
    """The text with non-breaking spaces between numbers and units."""
    return re.sub(r"(?<=[\d)]) (?=(?:%|dB|s|ms|M|kbit/s)(?!\w))", "\u00a0", text)


def _header_facts(view: ResultsView) -> str:
    hours = sum(dataset.hours for dataset in view.datasets)
    provenance = view.eval_results.provenance
    parts = [pluralize(len(view.models), "model"), pluralize(len(view.datasets), "dataset")]
    parts = [part for part in (*parts, f"{format_number(hours)} hours of audio") if not part.startswith("0")]
    parts += [str(provenance[key]) for key in ("processor", "dtype") if provenance.get(key)]
    parts += [str(provenance["ended"])[:10]] if provenance.get("ended") else []
    return " · ".join(parts)
