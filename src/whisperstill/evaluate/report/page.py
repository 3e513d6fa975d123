"""The report as one HTML page that needs nothing else: no network, no script, opened from disk."""

import re
from collections.abc import Mapping

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report.blocks import Section
from whisperstill.evaluate.report.listening import clips, draft_facts
from whisperstill.evaluate.report.numbers import figure, plural
from whisperstill.evaluate.report.plots import PLACES, draw
from whisperstill.evaluate.report.sections import sections
from whisperstill.evaluate.report.verdict import verdict
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import Findings


def render_page(findings: Findings, *, audio: bool = True) -> str:
    """The page. With `audio` it holds the sound of the worst errors, about 5 kB a second.

    The same findings (and recordings) give the same page. Raises `MissingExtraError` without jinja2 or matplotlib.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("a page of the report", "report") from error

    view = View(findings)
    found = sections(view)
    pages = Environment(
        loader=PackageLoader("whisperstill.evaluate.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    pages.filters["together"] = _together
    return pages.get_template("page.html").render(
        name=findings.name or "Evaluation",
        facts=_facts(view),
        verdict=verdict(view),
        failures=plural(len(findings.failures), "part") if findings.failures else "",
        sections=found,
        contents=_contents(found),
        drawn={chart.id: Markup(draw(chart)) for section in found for chart in section.charts},
        clips=clips(view, audio),
        drafts=[(draft, draft_facts(draft)) for draft in findings.drafts],
        places=range(PLACES),
    )


def _together(text: str) -> str:
    """A number and its unit, which no line break parts."""
    return re.sub(r"(?<=[\d)]) (?=(?:%|dB|s|ms|M|kbit/s)(?!\w))", "\u00a0", text)


def _contents(found: list[Section]) -> Mapping[str, list[Section]]:
    """Sections by the heading that they stand under in the table of contents."""
    groups: dict[str, list[Section]] = {}
    for section in found:
        groups.setdefault(section.group, []).append(section)
    return groups


def _facts(view: View) -> str:
    hours = sum(one.hours for one in view.sets)
    known = view.findings.provenance
    parts = [plural(len(view.models), "model"), plural(len(view.sets), "set"), f"{figure(hours)} hours of sound"]
    parts = [part for part in parts if not part.startswith("0")]
    parts += [str(known[key]) for key in ("processor", "dtype") if known.get(key)]
    parts += [str(known["ended"])[:10]] if known.get("ended") else []
    return " · ".join(parts)
