"""All sections of a report, in the order in which they are read; those without data are left out."""

import math
from dataclasses import replace

from whisperstill.evaluate.report.ablations import ablations
from whisperstill.evaluate.report.accuracy import headline, short_form
from whisperstill.evaluate.report.background import failures, provenance, slices, training
from whisperstill.evaluate.report.blocks import Point, Section
from whisperstill.evaluate.report.cost import speculation, speed
from whisperstill.evaluate.report.hallucination import hallucination
from whisperstill.evaluate.report.long_form import chunk_length, long_form
from whisperstill.evaluate.report.robustness import channels, effective_robustness, noise
from whisperstill.evaluate.report.view import View


def sections(view: View) -> list[Section]:
    """Sections with something in them."""
    found = [
        headline(view),
        short_form(view),
        long_form(view),
        chunk_length(view),
        hallucination(view),
        effective_robustness(view),
        noise(view),
        channels(view),
        speed(view),
        speculation(view),
        *ablations(view),
        worst(view),
        slices(view),
        training(view),
        failures(view),
        provenance(view),
    ]
    return [_drawable(section) for section in found if section]


def _drawable(section: Section) -> Section:
    """Without points that are no numbers, and without charts that hold nothing else."""
    charts = []
    for chart in section.charts:
        series = (replace(one, points=tuple(filter(_known, one.points))) for one in chart.series)
        kept = tuple(one for one in series if one.points)
        charts += [replace(chart, series=kept)] if kept else []
    return replace(section, charts=tuple(charts))


def _known(point: Point) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y)


def worst(view: View) -> Section | None:
    """Utterances worth listening to, one by one."""
    if not view.findings.worst:
        return None
    heard = "What was said and what was heard, word by word, after normalisation."
    return Section("worst", "Worst errors", "Background", heard, kind="worst")
