"""The report on one screen: size, speed and accuracy of the main model against its teacher.

A difference is reported only if its interval excludes zero.
"""

from dataclasses import dataclass

from whisperstill.evaluate.report.formatting import format_number, join_names, pluralize
from whisperstill.evaluate.report.tiles import Tile, build_tiles
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.evaluate.report.wer_comparison import compare_short_form, describe_size_change
from whisperstill.records.eval_results import ModelInfo


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a report."""

    sentence: str
    tiles: list[Tile]
    other_sentences: list[str]
    """One sentence for each model besides the main one."""


def build_summary(view: ResultsView) -> Summary | None:
    """Summary of the main model; None without models."""
    if view.main_model is None:
        return None
    others = [model for model in view.compared_models if model is not view.main_model and view.teacher]
    return Summary(
        _summary_sentence(view, view.main_model),
        build_tiles(view, view.main_model),
        [_summary_sentence(view, model) for model in others],
    )


def _summary_sentence(view: ResultsView, model: ModelInfo) -> str:
    name, teacher = view.display_name(model.name), view.teacher_of(model)
    comparison = compare_short_form(view, model, in_distribution=False)
    datasets_text = " out of distribution" if view.has_distributions else ""
    if comparison is None:
        comparison, datasets_text = compare_short_form(view, model, None), ""
    errors_text = ""
    if comparison:
        errors_text = f"{format_number(comparison.mean.value)} errors per 100 {comparison.unit}{datasets_text}"
    if teacher is None:
        reason = "No other model was measured." if view.teacher else "No teacher was measured for comparison."
        return f"{f'{name} makes {errors_text}' if comparison else f'Results of {name}'}. {reason}"
    teacher_name = view.display_name(teacher.name)
    speed = view.relative_speed(model.name)
    gains = [f"is {format_number(speed, 1)} times as fast as {teacher_name}"] if speed else []
    if model.parameters and teacher.parameters:
        gains.append(f"has {describe_size_change(model.parameters / teacher.parameters)} parameters")
    opening = f"{name} {' and '.join(gains)}, and" if gains else name
    if comparison is None or comparison.teacher_wer is None:
        return f"{opening.removesuffix(', and')}." if gains else f"{name} and {teacher_name} were measured."
    rates_text = f"{errors_text}, {teacher_name} {format_number(comparison.teacher_wer)}"
    if comparison.badge == "no clear difference" and (comparison.num_worse or comparison.num_better):
        counts = (("worse", comparison.num_worse), ("better", comparison.num_better))
        split_text = join_names([f"{outcome} on {count}" for outcome, count in counts if count])
        datasets_count = pluralize(comparison.num_datasets, "dataset")
        return f"{opening} shows no clear difference on average, but is {split_text} of {datasets_count}: {rates_text}."
    if comparison.badge == "no clear difference":
        return f"{opening} shows no clear difference in accuracy: {rates_text}."
    if comparison.badge == "better":
        return f"{opening} is more accurate: {rates_text}."
    wer_ratio = comparison.mean.value / comparison.teacher_wer if comparison.teacher_wer else float("inf")
    degree = "far less" if wer_ratio >= 2 else "less" if wer_ratio >= 1.1 else "slightly less"
    opening = f"{opening.removesuffix(' and')} but" if gains else opening
    return f"{opening} is {degree} accurate: {rates_text}."
