"""filter: which labels may teach. Verdicts with reasons are written beside the labels; nothing is deleted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.label.counts import LabelCounts
from whisperstill.label.filter_rules import RuleSettings, active_rules, apply_filter
from whisperstill.label.subset import NOT_IN_SUBSET, restrict_to_subset, select_subset
from whisperstill.label.threshold_sweep import (
    TABLE_COLUMNS,
    WER_LIMITS_PERCENT,
    ThresholdSweep,
    table_rows,
    to_markdown,
)
from whisperstill.records.pseudo_label import FilterDecision, FilteredLabel
from whisperstill.records.serialization import to_jsonable

if TYPE_CHECKING:
    from whisperstill.label.store import LabelStore
    from whisperstill.label.wer_prediction import WerPrediction
    from whisperstill.pipeline.recipe import RecipeStage

PREDICTED_WER_RULE = "predicted_wer"
"""The rule that needs all labels together, unlike those in `label.filter_rules`."""
SELECTION_SETTINGS = ("max_predicted_wer", "weight_by_predicted_wer", "subset_hours", "second_opinion")
"""Settings that decide what is kept, beside the rules."""


@dataclass(frozen=True, kw_only=True)
class FilterSettings(RuleSettings):
    """Judge labels, utterance by utterance: a bad one does not take the good ones of its window with it."""

    labels: Path
    """Folder of labels, as `label` left it."""
    output: Path
    """Folder for the verdicts."""
    max_predicted_wer: float | None = None
    """Most predicted word error rate, in per cent, of utterances that have no reference (see `label.wer_prediction`;
    extra `prediction`). Some others must have one, for it to learn from."""
    weight_by_predicted_wer: bool = False
    """Utterances without a reference count in the loss by how right they are predicted to be (1 - predicted word error
    rate); those above `max_predicted_wer` are dropped all the same."""
    subset_hours: float | None = None
    """Most hours that may teach: windows of the first packing are drawn by a hash of their names, so that fewer hours
    are a part of more, and what is in them is kept in all packings. For a curve over the amount of data."""
    second_opinion: Path | None = None
    """Labels of the same windows by another model (tiny.en, the student): a second opinion for the prediction."""
    tune: Path | None = None
    """A recipe: of several limits on the word error rate the one is taken whose pilot, a short training by the recipe's
    `[init]` and `[train]` on what these rules keep, has the lowest validation error (the paper chose its λ so)."""
    tune_wer: tuple[float, ...] = (100.0, 40.0, 20.0, 10.0, 5.0)
    """The limits that are tried, per cent."""
    tune_steps: int = 150
    """Steps of a pilot."""
    tune_seeds: tuple[int, ...] = (0,)
    """Seeds of the pilots; their mean counts."""
    sweep: bool = False
    """Also show, write and plot what would be left for a range of limits on the word error rate."""
    sweep_wer: tuple[float, ...] = WER_LIMITS_PERCENT
    """The limits of the sweep, per cent; those of the paper."""

    @property
    def rules(self) -> RuleSettings:
        """The rules alone."""
        return RuleSettings(**{field.name: getattr(self, field.name) for field in fields(RuleSettings)})


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What the filter decided."""

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
    """Utterances by the rule that dropped them."""
    calibration_utterances: int
    """Utterances with a reference that the prediction was learnt from; 0 without a prediction."""
    correlation: float
    """Of predicted and true word error rate on those, each predicted unseen."""
    max_wer: float | None
    """The limit that was used."""
    pilots: dict[str, float]
    """By limit: mean validation error of its pilots, per cent."""


def run(settings: FilterSettings, console: Console) -> FilterReport:
    """Judge all labels and write `decisions.parquet` and `filter.json`; with `sweep` also `sweep.{json,md,png}`.

    Raises `NotFoundError` or `StoreError` when the labels cannot be read, `SettingsError` for a sweep without limits.
    """
    from whisperstill.label.filter_decisions import DecisionRow, build_decision_rows, write_decisions
    from whisperstill.label.store import open_labels

    _check(settings)
    store = open_labels(settings.labels)
    if not store.is_complete:
        console.warn(f"the labels in {settings.labels} are not finished; filter again once they are")
    prediction = _predict_wer(settings, store)
    pilots = _pilots(settings, console)
    rules = (
        replace(settings.rules, max_wer=min(pilots, key=lambda limit: (pilots[limit], -limit)))
        if pilots
        else settings.rules
    )
    sweep = ThresholdSweep(rules, settings.sweep_wer)
    total_counts = LabelCounts()
    counts_by_rule = {
        name: LabelCounts() for name in ("", *(name for name, _ in active_rules()), PREDICTED_WER_RULE, NOT_IN_SUBSET)
    }
    subset = None
    if settings.subset_hours is not None:
        subset = select_subset(_apply_filters(store, rules, prediction, settings), settings.subset_hours)
    decision_rows: list[DecisionRow] = []
    for filtered in _apply_filters(store, rules, prediction, settings):
        if settings.sweep:
            sweep.add(filtered)
        if subset is not None:
            filtered = restrict_to_subset(filtered, subset)
        decision_rows += build_decision_rows(filtered)
        for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
            total_counts.add(quality, filtered.label.language)
            counts_by_rule[decision.rule].add(quality, filtered.label.language)

    kept_counts = counts_by_rule.pop("")
    dropped_counts = {rule: counts for rule, counts in counts_by_rule.items() if counts.utterances}
    report = FilterReport(
        output=str(settings.output),
        utterances=total_counts.utterances,
        kept=kept_counts.utterances,
        hours=total_counts.seconds / 3600,
        hours_kept=kept_counts.seconds / 3600,
        words=total_counts.words,
        words_kept=kept_counts.words,
        wer=total_counts.wer,
        wer_kept=kept_counts.wer,
        dropped={rule: counts.utterances for rule, counts in dropped_counts.items()},
        calibration_utterances=prediction.num_training_utterances if prediction else 0,
        correlation=round(prediction.correlation, 3) if prediction else 0.0,
        max_wer=rules.max_wer,
        pilots={f"{limit:g}": rate for limit, rate in pilots.items()},
    )
    metrics = {name: value for name, value in to_jsonable(report).items() if name != "output"}
    hours = {rule: counts.seconds / 3600 for rule, counts in dropped_counts.items()}
    settings_json = to_jsonable(settings)
    applied_settings = to_jsonable(rules) | {name: settings_json[name] for name in SELECTION_SETTINGS}
    summary = {"whisperstill": __version__, "settings": applied_settings, **metrics, "dropped_hours": hours}
    write_decisions(settings.output, settings.labels, decision_rows, summary)
    _print_table(
        total_counts,
        {"kept": kept_counts, **{f"dropped: {rule}": counts for rule, counts in dropped_counts.items()}},
        console,
    )
    if report.wer is not None and report.wer_kept is not None:
        console.info(f"WER of the labels: {report.wer:.1f} % of all, {report.wer_kept:.1f} % of the kept")
    if prediction:
        console.info(
            f"word error rates without a reference were predicted from {prediction.num_training_utterances} utterances "
            f"that have one (correlation with the truth {prediction.correlation:.2f})"
        )
    if settings.sweep:
        _write_sweep(settings.output, sweep, console, "" if subset is None else ", before hours are drawn")
    if not report.kept:
        console.warn("nothing is left to learn from: loosen the rules (the table says which one dropped what)")
    return report


def _pilots(settings: FilterSettings, console: Console) -> dict[float, float]:
    """Mean validation error of short trainings under each limit."""
    if settings.tune is None:
        return {}
    from whisperstill.distill.validation import shared_encoder_cache
    from whisperstill.pipeline.recipe import read_recipe
    from whisperstill.pipeline.sweep import SweepSettings, run_sweep
    from whisperstill.stages import load_verb

    stages = {stage.verb: stage for stage in read_recipe(settings.tune, load_verb).stages}
    if missing := {"label", "filter", "init", "train"} - stages.keys():
        raise SettingsError(
            f"{settings.tune} has no {', '.join(f'[{verb}]' for verb in sorted(missing))}: pilots need it"
        )
    if stages["label"].output.resolve() != settings.labels.resolve():
        raise SettingsError(
            f"{settings.tune} is about the labels in {stages['label'].output}, not in {settings.labels}"
        )
    grid = (f"filter.max_wer=[{', '.join(map(str, settings.tune_wer))}]", *_rule_overrides(settings, stages["filter"]))
    output = settings.output.with_name(f"{settings.output.name}-pilots")
    sweep_settings = SweepSettings(settings.tune, grid, settings.tune_seeds, settings.tune_steps, output)
    with shared_encoder_cache():
        sweep_report = run_sweep(sweep_settings, load_verb, console)
    pilots = {float(row.values["filter.max_wer"]): round(row.mean, 2) for row in sweep_report.rows}
    best = min(pilots, key=lambda limit: (pilots[limit], -limit))
    console.info(f"the pilot with at most {best:g} % word errors in its labels did best ({pilots[best]:.2f} %)")
    return pilots


def _rule_overrides(settings: FilterSettings, filter_stage: "RecipeStage") -> list[str]:
    """All that decides what is kept but `max_wer`, where it is not the recipe's: pilots are of this filter."""
    overrides, problems = [], []
    for name in (*(field.name for field in fields(RuleSettings)), *SELECTION_SETTINGS):
        value = getattr(settings, name)
        if name == "max_wer" or value == getattr(filter_stage.settings, name):
            continue
        if value is None:
            problems.append(name)
        else:
            overrides.append(
                f"filter.{name}=[{json.dumps(str(value.resolve()) if isinstance(value, Path) else value)}]"
            )
    if problems:
        raise SettingsError(
            f"{settings.tune} sets {', '.join(problems)}: pilots need the same rules; set them here, too"
        )
    return overrides


def _check(settings: FilterSettings) -> None:
    problems = []
    if settings.sweep and not all(limit >= 0 for limit in settings.sweep_wer or (-1,)):
        problems.append(f"sweep_wer must name limits of 0 or more per cent, got {list(settings.sweep_wer)}")
    if settings.max_predicted_wer is None:
        if settings.weight_by_predicted_wer:
            problems.append(
                "weight_by_predicted_wer needs max_predicted_wer: labels are weighed by their predicted error rate"
            )
        if settings.second_opinion is not None:
            problems.append("second_opinion needs max_predicted_wer: a second opinion is for the prediction")
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


def _apply_filters(
    store: "LabelStore", rules: RuleSettings, prediction: "WerPrediction | None", settings: FilterSettings
) -> Iterator[FilteredLabel]:
    """Every window with what the rules and the prediction say of its utterances."""
    predicted_wers = iter(prediction.wer if prediction else ())
    for label in store.read_labels():
        filtered = apply_filter(label, rules)
        if prediction:
            filtered = _apply_predicted_wer(
                filtered, settings.max_predicted_wer or 0.0, settings.weight_by_predicted_wer, predicted_wers
            )
        yield filtered


def _apply_predicted_wer(
    filtered: FilteredLabel, max_predicted_wer: float, weight_by_predicted_wer: bool, predicted_wers: Iterator[float]
) -> FilteredLabel:
    """The same, without utterances that have no reference and are predicted to be worse than `max_predicted_wer`; the
    others of them weighed, where that is asked for."""
    decisions = []
    for quality, decision in zip(filtered.label.quality, filtered.decisions, strict=True):
        predicted_wer = float(next(predicted_wers))
        if decision.keep and quality.edits is None and predicted_wer > max_predicted_wer:
            decision = FilterDecision(False, PREDICTED_WER_RULE, predicted_wer)
        elif decision.keep and quality.edits is None and weight_by_predicted_wer:
            decision = replace(decision, weight=round(1 - predicted_wer / 100, 4))
        decisions.append(decision)
    return replace(filtered, decisions=tuple(decisions))


def _print_table(total_counts: LabelCounts, parts: dict[str, LabelCounts], console: Console) -> None:
    table = [
        [
            name,
            str(counts.utterances),
            f"{counts.seconds / 3600:.2f}",
            f"{100 * counts.seconds / total_counts.seconds if total_counts.seconds else 0:.1f}",
            str(counts.words),
            "-" if counts.wer is None else f"{counts.wer:.1f}",
        ]
        for name, counts in {**parts, "all": total_counts}.items()
    ]
    console.table("what may teach", ["decision", "utterances", "hours", "% of hours", "words", "WER %"], table)


def _write_sweep(directory: Path, sweep: ThresholdSweep, console: Console, title_suffix: str) -> None:
    from whisperstill.label.threshold_sweep_plot import plot_threshold_sweep

    points = sweep.points()
    console.table(f"what would be left{title_suffix}", TABLE_COLUMNS, table_rows(points))
    content = {
        "whisperstill": __version__,
        "settings": to_jsonable(sweep.settings),
        "points": [to_jsonable(point) for point in points],
    }
    atomic_write(directory / "sweep.json", json.dumps(content, indent=1) + "\n")
    atomic_write(directory / "sweep.md", to_markdown(points))
    try:
        plot_threshold_sweep(points, directory / "sweep.png")
    except MissingExtraError as error:
        console.warn(str(error))
