"""All sections of a report, in the order in which they are read; those without data are left out."""

import math
from dataclasses import replace

from whisperstill.evaluate.report.ablations import build_ablation_sections
from whisperstill.evaluate.report.accuracy import build_headline_section, build_short_form_section
from whisperstill.evaluate.report.appendix import (
    build_failures_section,
    build_provenance_section,
    build_subsets_section,
    build_training_section,
)
from whisperstill.evaluate.report.blocks import Point, Section
from whisperstill.evaluate.report.cost import build_speculative_section, build_speed_section
from whisperstill.evaluate.report.hallucination import build_hallucination_section
from whisperstill.evaluate.report.long_form import build_chunk_length_section, build_long_form_section
from whisperstill.evaluate.report.robustness import (
    build_channels_section,
    build_effective_robustness_section,
    build_noise_section,
)
from whisperstill.evaluate.report.view import ResultsView


def build_sections(view: ResultsView) -> list[Section]:
    """Sections with something in them."""
    built_sections = [
        build_headline_section(view),
        build_short_form_section(view),
        build_long_form_section(view),
        build_chunk_length_section(view),
        build_hallucination_section(view),
        build_effective_robustness_section(view),
        build_noise_section(view),
        build_channels_section(view),
        build_speed_section(view),
        build_speculative_section(view),
        *build_ablation_sections(view),
        build_error_examples_section(view),
        build_subsets_section(view),
        build_training_section(view),
        build_failures_section(view),
        build_provenance_section(view),
    ]
    return [_drop_non_finite_points(section) for section in built_sections if section]


def _drop_non_finite_points(section: Section) -> Section:
    """Without points that are no numbers, and without charts that hold nothing else."""
    charts = []
    for chart in section.charts:
        finite_series = (replace(series, points=tuple(filter(_is_finite, series.points))) for series in chart.series)
        non_empty_series = tuple(series for series in finite_series if series.points)
        charts += [replace(chart, series=non_empty_series)] if non_empty_series else []
    return replace(section, charts=tuple(charts))


def _is_finite(point: Point) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y)


def build_error_examples_section(view: ResultsView) -> Section | None:
    """Utterances worth listening to, one by one."""
    if not view.eval_results.error_examples:
        return None
    lead = "What was said and what was heard, word by word, after normalisation."
    return Section("error-examples", "Worst errors", "Background", lead, kind="error_examples")
