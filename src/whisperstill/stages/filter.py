"""`whisperstill filter`: decides which pseudo-labels are used for training; the labels themselves stay unchanged."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write
from whisperstill.console import SILENT, Console
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.label import threshold_sweep
from whisperstill.label.filter_rules import RuleSettings
from whisperstill.label.filtering import DecisionCounts, filter_labels, restrict_to_subset, select_subset
from whisperstill.label.settings import FilterSettings
from whisperstill.records.json_value import JsonValue
from whisperstill.records.pseudo_label import FilteredLabel
from whisperstill.records.serialization import to_jsonable

if TYPE_CHECKING:
    from whisperstill.label.store import LabelStore
    from whisperstill.label.wer_prediction import WerPrediction
    from whisperstill.pipeline.recipe import RecipeStage

SELECTION_SETTINGS = ("max_predicted_wer", "weight_by_predicted_wer", "subset_hours", "second_opinion")
"""Settings besides the rules that decide which labels are kept."""


__all__ = ["FilterReport", "FilterSettings", "run"]


@dataclass(frozen=True, slots=True)
class FilterReport:
    """Totals of the filter decisions."""

    output: str
    utterances: int
    kept: int
    hours: float
    hours_kept: float
    words: int
    words_kept: int
    wer: float | None
    """Word error rate of all labels against their references, per cent; None without references."""
    wer_kept: float | None
    dropped: dict[str, int]
    """Number of utterances by the rule that dropped them."""
    calibration_utterances: int
    """Utterances with a reference that the WER predictor was trained on; 0 without prediction."""
    correlation: float
    """Correlation of predicted and true WER on those, cross-validated."""
    max_wer: float | None
    """WER threshold used, per cent."""
    pilots: dict[str, float]
    """Mean validation error of the pilots, per cent, by WER threshold."""


def run(settings: FilterSettings, console: Console = SILENT) -> FilterReport:
    """Write `filter_decisions.parquet` and `filter.json`; with `sweep` also `sweep.{json,md,png}`.

    Raises `NotFoundError` or `StoreError` when the labels cannot be read, `SettingsError` for invalid settings.
    """
    from whisperstill.label.filter_decisions import build_decision_rows, write_decisions
    from whisperstill.label.store import open_labels

    # 1. Choose the rules.
    _check(settings)
    store = open_labels(settings.labels)
    if not store.is_complete:
        console.warn(f"the labels in {settings.labels} are not finished; filter again once they are")
    prediction = _predict_wer(settings, store)
    pilots = _pilots(settings, console)
    rules = replace(settings.rules, max_wer=_best_limit(pilots)) if pilots else settings.rules

    # 2. Decide for every utterance.
    def filter_store() -> Iterable[FilteredLabel]:
        predicted_wers = None if prediction is None else prediction.wer.tolist()
        max_predicted_wer = settings.max_predicted_wer or 0.0
        return filter_labels(store, rules, predicted_wers, max_predicted_wer, settings.weight_by_predicted_wer)

    subset = None if settings.subset_hours is None else select_subset(filter_store(), settings.subset_hours)
    sweep = threshold_sweep.ThresholdSweep(rules, settings.sweep_wer)
    counts = DecisionCounts()
    decision_rows = []
    for filtered in filter_store():
        if settings.sweep:
            sweep.add(filtered)
        if subset is not None:
            filtered = restrict_to_subset(filtered, subset)
        decision_rows += build_decision_rows(filtered)
        counts.add(filtered)

    # 3. Write and report.
    report = _build_report(settings, counts, prediction, rules.max_wer, pilots)
    write_decisions(settings.output, settings.labels, decision_rows, _build_summary(settings, rules, counts, report))
    _print_report(report, counts, console)
    if settings.sweep:
        _write_sweep(settings.output, sweep, console, "" if subset is None else ", before the subset is selected")
    return report


def _build_report(
    settings: FilterSettings,
    counts: DecisionCounts,
    prediction: "WerPrediction | None",
    max_wer: float | None,
    pilots: dict[float, float],
) -> FilterReport:
    total, kept = counts.total, counts.kept
    return FilterReport(
        output=str(settings.output),
        utterances=total.utterances,
        kept=kept.utterances,
        hours=total.hours,
        hours_kept=kept.hours,
        words=total.words,
        words_kept=kept.words,
        wer=total.wer,
        wer_kept=kept.wer,
        dropped={rule: dropped.utterances for rule, dropped in counts.dropped.items()},
        calibration_utterances=prediction.num_training_utterances if prediction else 0,
        correlation=round(prediction.correlation, 3) if prediction else 0.0,
        max_wer=max_wer,
        pilots={f"{limit:g}": rate for limit, rate in pilots.items()},
    )


def _build_summary(
    settings: FilterSettings, rules: RuleSettings, counts: DecisionCounts, report: FilterReport
) -> dict[str, JsonValue]:
    """Content of `filter.json`."""
    metrics = {name: value for name, value in to_jsonable(report).items() if name != "output"}
    settings_json = to_jsonable(settings)
    applied_settings = to_jsonable(rules) | {name: settings_json[name] for name in SELECTION_SETTINGS}
    dropped_hours: dict[str, JsonValue] = {rule: dropped.hours for rule, dropped in counts.dropped.items()}
    return {"whisperstill": __version__, "settings": applied_settings, **metrics, "dropped_hours": dropped_hours}


def _print_report(report: FilterReport, counts: DecisionCounts, console: Console) -> None:
    parts = {"kept": counts.kept, **{f"dropped: {rule}": dropped for rule, dropped in counts.dropped.items()}}
    rows = [
        [
            name,
            str(part.utterances),
            f"{part.hours:.2f}",
            f"{100 * part.seconds / counts.total.seconds if counts.total.seconds else 0:.1f}",
            str(part.words),
            "-" if part.wer is None else f"{part.wer:.1f}",
        ]
        for name, part in {**parts, "all": counts.total}.items()
    ]
    console.table("filter decisions", ["decision", "utterances", "hours", "% of hours", "words", "WER %"], rows)
    if report.wer is not None and report.wer_kept is not None:
        console.info(f"WER of the labels: {report.wer:.1f} % of all, {report.wer_kept:.1f} % of the kept")
    if report.calibration_utterances:
        console.info(
            f"WER of utterances without a reference was predicted from {report.calibration_utterances} utterances "
            f"with one (correlation with the true WER {report.correlation:.2f})"
        )
    if not report.kept:
        console.warn("no utterance is kept: loosen the rules (the table shows what each one dropped)")


def _pilots(settings: FilterSettings, console: Console) -> dict[float, float]:
    """Mean validation error of the pilots, per cent, by WER threshold."""
    if settings.tune is None:
        return {}
    from whisperstill.distill.validation import shared_encoder_cache
    from whisperstill.pipeline.recipe import read_recipe
    from whisperstill.pipeline.sweep import sweep_recipe
    from whisperstill.stages import load_verb

    recipe = read_recipe(settings.tune, load_verb)
    stages = {stage.verb: stage for stage in recipe.stages}
    if missing := {"label", "filter", "init", "train"} - stages.keys():
        raise SettingsError(
            f"{settings.tune} has no {', '.join(f'[{verb}]' for verb in sorted(missing))}: `tune` needs it"
        )
    if stages["label"].output.resolve() != settings.labels.resolve():
        raise SettingsError(
            f"{settings.tune} uses the labels in {stages['label'].output}, expected those in {settings.labels}"
        )
    grid = {"filter.max_wer": settings.tune_wer, **_rule_overrides(settings, stages["filter"])}
    output = settings.output.with_name(f"{settings.output.name}-pilots")
    with shared_encoder_cache():
        report = sweep_recipe(recipe, grid, settings.tune_seeds, settings.tune_steps, output, console)
    pilots = {float(str(row.values["filter.max_wer"])): round(row.mean, 2) for row in report.rows}
    best = _best_limit(pilots)
    console.info(f"max_wer {best:g} has the lowest validation error ({pilots[best]:.2f} %)")
    return pilots


def _best_limit(pilots: dict[float, float]) -> float:
    """The threshold with the lowest error; of equal ones the loosest."""
    return min(pilots, key=lambda limit: (pilots[limit], -limit))


def _rule_overrides(settings: FilterSettings, filter_stage: "RecipeStage") -> dict[str, list[JsonValue]]:
    """Every setting but `max_wer` that differs from the recipe, as a sweep of one value: pilots use these rules."""
    names = (*(field.name for field in fields(RuleSettings)), *SELECTION_SETTINGS)
    changed = [
        name for name in names if name != "max_wer" and getattr(settings, name) != getattr(filter_stage.settings, name)
    ]
    problems = [name for name in changed if getattr(settings, name) is None]
    if problems:
        raise SettingsError(
            f"{settings.tune} sets {', '.join(problems)}: pilots need the same rules; set them here, too"
        )
    values = {name: getattr(settings, name) for name in changed}
    return {
        f"filter.{name}": [str(value.resolve()) if isinstance(value, Path) else value] for name, value in values.items()
    }


def _check(settings: FilterSettings) -> None:
    problems = []
    if settings.sweep and not all(limit >= 0 for limit in settings.sweep_wer or (-1,)):
        problems.append(f"sweep_wer must name limits of 0 or more per cent, got {list(settings.sweep_wer)}")
    if settings.max_predicted_wer is None:
        if settings.weight_by_predicted_wer:
            problems.append("weight_by_predicted_wer needs max_predicted_wer: without it no WER is predicted")
        if settings.second_opinion is not None:
            problems.append("second_opinion needs max_predicted_wer: without it no WER is predicted")
    elif not 0 <= settings.max_predicted_wer <= 100:
        problems.append(f"max_predicted_wer must be 0 to 100 per cent, got {settings.max_predicted_wer:g}")
    if problems:
        raise SettingsError("; ".join(problems))


def _predict_wer(settings: FilterSettings, store: "LabelStore") -> "WerPrediction | None":
    if settings.max_predicted_wer is None:
        return None
    from whisperstill.label.store import open_labels
    from whisperstill.label.wer_prediction import predict_store_wer

    return predict_store_wer(store, open_labels(settings.second_opinion) if settings.second_opinion else None)


def _write_sweep(directory: Path, sweep: threshold_sweep.ThresholdSweep, console: Console, title_suffix: str) -> None:
    points = sweep.points()
    console.table(f"what would remain{title_suffix}", threshold_sweep.TABLE_COLUMNS, threshold_sweep.table_rows(points))
    content = {
        "whisperstill": __version__,
        "settings": to_jsonable(sweep.rules),
        "points": [to_jsonable(point) for point in points],
    }
    atomic_write(directory / "sweep.json", json.dumps(content, indent=1) + "\n")
    atomic_write(directory / "sweep.md", threshold_sweep.to_markdown(points))
    try:
        threshold_sweep.plot_threshold_sweep(points, directory / "sweep.png")
    except MissingExtraError as error:
        console.warn(str(error))
