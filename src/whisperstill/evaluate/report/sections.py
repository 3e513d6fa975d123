"""All sections of a report in reading order; sections without data are left out."""

from dataclasses import replace

from whisperstill.evaluate.report.ablations import build_ablation_sections
from whisperstill.evaluate.report.accuracy import build_headline_section, build_short_form_section
from whisperstill.evaluate.report.appendix import (
    build_error_examples_section,
    build_failures_section,
    build_provenance_section,
    build_subsets_section,
    build_training_section,
)
from whisperstill.evaluate.report.blocks import Section
from whisperstill.evaluate.report.corrupted_audio import build_channels_section, build_noise_section
from whisperstill.evaluate.report.cost import build_speculative_section, build_speed_section
from whisperstill.evaluate.report.effective_robustness import build_effective_robustness_section
from whisperstill.evaluate.report.hallucination import build_hallucination_section
from whisperstill.evaluate.report.long_form import build_chunk_length_section, build_long_form_section
from whisperstill.evaluate.report.view import ResultsView


def build_sections(view: ResultsView) -> list[Section]:
    """Sections that have content; charts have finite points only."""
    sections = [
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
    finite_sections = []
    for section in filter(None, sections):
        charts = (chart.drop_non_finite_points() for chart in section.charts)
        finite_sections.append(replace(section, charts=[chart for chart in charts if chart.series]))
    return finite_sections
