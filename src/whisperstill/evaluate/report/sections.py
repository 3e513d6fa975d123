"""All sections of a report in reading order; sections without data are left out."""

from dataclasses import replace

from whisperstill.evaluate.report import accuracy, appendix, corrupted_audio, cost, long_form
from whisperstill.evaluate.report.ablations import build_ablation_sections
from whisperstill.evaluate.report.blocks import Section
from whisperstill.evaluate.report.effective_robustness import build_effective_robustness_section
from whisperstill.evaluate.report.hallucination import build_hallucination_section
from whisperstill.evaluate.report.view import ResultsView


def build_sections(view: ResultsView) -> list[Section]:
    """Sections that have content; tables have rows, and charts finite points only."""
    sections = (
        accuracy.build_headline_section(view),
        accuracy.build_short_form_section(view),
        long_form.build_long_form_section(view),
        long_form.build_chunk_length_section(view),
        build_hallucination_section(view),
        build_effective_robustness_section(view),
        corrupted_audio.build_noise_section(view),
        corrupted_audio.build_channels_section(view),
        cost.build_speed_section(view),
        cost.build_speculative_section(view),
        *build_ablation_sections(view),
        appendix.build_error_examples_section(view),
        appendix.build_subsets_section(view),
        appendix.build_training_section(view),
        appendix.build_failures_section(view),
        appendix.build_provenance_section(view),
    )
    shown = []
    for section in sections:
        tables = [table for table in section.tables if table.rows]
        charts = [finite for chart in section.charts if (finite := chart.drop_non_finite_points()).series]
        shown += [replace(section, tables=tables, charts=charts)] if tables or charts or section.special else []
    return shown
