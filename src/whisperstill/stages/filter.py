"""filter: which labels may teach. Verdicts with reasons are written beside the labels; nothing is deleted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whisperstill._version import __version__
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.files import write_whole
from whisperstill.label.draw import NOT_DRAWN, among, drawn
from whisperstill.label.rules import RULES, RuleSettings, judge
from whisperstill.label.sweep import COLUMNS, LIMITS, Sweep, cells, markdown
from whisperstill.label.tally import Tally
from whisperstill.records.labelled import Judged, Verdict
from whisperstill.stages.console import Console
from whisperstill.stages.fingerprint import jsonable

if TYPE_CHECKING:
    from whisperstill.label.prediction import Prediction
    from whisperstill.label.store import LabelStore
    from whisperstill.stages.recipe import Planned

PREDICTED = "predicted_wer"
"""The rule that needs all labels together, unlike those in `label.rules`."""
BESIDE = ("max_predicted_wer", "weigh", "max_hours", "proxy")
"""Settings that decide what is kept, beside the rules."""


@dataclass(frozen=True, kw_only=True)
class FilterSettings(RuleSettings):
    """Judge labels, utterance by utterance: a bad one does not take the good ones of its window with it."""

    labels: Path
    """Folder of labels, as `label` left it."""
    output: Path
    """Folder for the verdicts."""
    max_predicted_wer: float | None = None
    """Most predicted word error rate, in per cent, of utterances that have no reference (see `label.prediction`;
    extra `prediction`). Some others must have one, for it to learn from."""
    weigh: bool = False
    """Utterances without a reference count in the loss by how right they are predicted to be (1 - predicted word error
    rate); those above `max_predicted_wer` are dropped all the same."""
    max_hours: float | None = None
    """Most hours that may teach: windows of the first packing are drawn by a hash of their names, so that fewer hours
    are a part of more, and what is in them is kept in all packings. For a curve over the amount of data."""
    proxy: Path | None = None
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
    sweep_wer: tuple[float, ...] = LIMITS
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
    predicted_from: int
    """Utterances with a reference that the prediction was learnt from; 0 without a prediction."""
    correlation: float
    """Of predicted and true word error rate on those, each predicted unseen."""
    max_wer: float | None
    """The limit that was used."""
    pilots: dict[str, float]
    """By limit: mean validation error of its pilots, per cent."""


def run(settings: FilterSettings, console: Console) -> FilterReport:
    """Judge all labels and write `verdicts.parquet` and `filter.json`; with `sweep` also `sweep.{json,md,png}`.

    Raises `NotFoundError` or `StoreError` when the labels cannot be read, `SettingsError` for a sweep without limits.
    """
    from whisperstill.label.store import open_labels
    from whisperstill.label.verdicts import Row, rows, write_verdicts

    _check(settings)
    store = open_labels(settings.labels)
    if not store.finished:
        console.warn(f"the labels in {settings.labels} are not finished; filter again once they are")
    predicted = _prediction(settings, store)
    pilots = _pilots(settings, console)
    rules = (
        replace(settings.rules, max_wer=min(pilots, key=lambda limit: (pilots[limit], -limit)))
        if pilots
        else settings.rules
    )
    sweep = Sweep(rules, settings.sweep_wer)
    everything = Tally()
    by_reason = {name: Tally() for name in ("", *(name for name, _ in RULES), PREDICTED, NOT_DRAWN)}
    chosen = None
    if settings.max_hours is not None:
        chosen = drawn(_judged(store, rules, predicted, settings), settings.max_hours)
    written: list[Row] = []
    for judged in _judged(store, rules, predicted, settings):
        if settings.sweep:
            sweep.add(judged)
        if chosen is not None:
            judged = among(judged, chosen)
        written += rows(judged)
        for seen, verdict in zip(judged.labelled.evidence, judged.verdicts, strict=True):
            everything.add(seen, judged.labelled.language)
            by_reason[verdict.rule].add(seen, judged.labelled.language)

    kept = by_reason.pop("")
    dropped = {rule: tally for rule, tally in by_reason.items() if tally.utterances}
    report = FilterReport(
        output=str(settings.output),
        utterances=everything.utterances,
        kept=kept.utterances,
        hours=everything.seconds / 3600,
        hours_kept=kept.seconds / 3600,
        words=everything.words,
        words_kept=kept.words,
        wer=everything.wer,
        wer_kept=kept.wer,
        dropped={rule: tally.utterances for rule, tally in dropped.items()},
        predicted_from=predicted.calibrated_on if predicted else 0,
        correlation=round(predicted.correlation, 3) if predicted else 0.0,
        max_wer=rules.max_wer,
        pilots={f"{limit:g}": rate for limit, rate in pilots.items()},
    )
    figures = {name: value for name, value in jsonable(report).items() if name != "output"}
    hours = {rule: tally.seconds / 3600 for rule, tally in dropped.items()}
    asked = jsonable(rules) | {name: jsonable(getattr(settings, name)) for name in BESIDE}
    summary = {"whisperstill": __version__, "settings": asked, **figures, "dropped_hours": hours}
    write_verdicts(settings.output, settings.labels, written, summary)
    _show(everything, {"kept": kept, **{f"dropped: {rule}": tally for rule, tally in dropped.items()}}, console)
    if report.wer is not None and report.wer_kept is not None:
        console.info(f"WER of the labels: {report.wer:.1f} % of all, {report.wer_kept:.1f} % of the kept")
    if predicted:
        console.info(
            f"word error rates without a reference were predicted from {predicted.calibrated_on} utterances that have "
            f"one (correlation with the truth {predicted.correlation:.2f})"
        )
    if settings.sweep:
        _write_sweep(settings.output, sweep, console, "" if chosen is None else ", before hours are drawn")
    if not report.kept:
        console.warn("nothing is left to learn from: loosen the rules (the table says which one dropped what)")
    return report


def _pilots(settings: FilterSettings, console: Console) -> dict[float, float]:
    """Mean validation error of short trainings under each limit."""
    if settings.tune is None:
        return {}
    from whisperstill.stages.recipe import read_recipe
    from whisperstill.stages.sweep import SweepSettings
    from whisperstill.stages.sweep import run as run_sweep

    stages = {stage.verb: stage for stage in read_recipe(settings.tune).stages}
    if missing := {"label", "filter", "init", "train"} - stages.keys():
        raise SettingsError(
            f"{settings.tune} has no {', '.join(f'[{verb}]' for verb in sorted(missing))}: pilots need it"
        )
    if stages["label"].place.resolve() != settings.labels.resolve():
        raise SettingsError(f"{settings.tune} is about the labels in {stages['label'].place}, not in {settings.labels}")
    vary = (f"filter.max_wer=[{', '.join(map(str, settings.tune_wer))}]", *_other_rules(settings, stages["filter"]))
    place = settings.output.with_name(f"{settings.output.name}-pilots")
    found = run_sweep(SweepSettings(settings.tune, vary, settings.tune_seeds, settings.tune_steps, place), console)
    pilots = {float(row.values["filter.max_wer"]): round(row.mean, 2) for row in found.rows}
    best = min(pilots, key=lambda limit: (pilots[limit], -limit))
    console.info(f"the pilot with at most {best:g} % word errors in its labels did best ({pilots[best]:.2f} %)")
    return pilots


def _other_rules(settings: FilterSettings, asked: "Planned") -> list[str]:
    """All that decides what is kept but `max_wer`, where it is not the recipe's: pilots are of this filter."""
    found, problems = [], []
    for name in (*(field.name for field in fields(RuleSettings)), *BESIDE):
        value = getattr(settings, name)
        if name == "max_wer" or value == getattr(asked.settings, name):
            continue
        if value is None:
            problems.append(name)
        else:
            found.append(f"filter.{name}=[{json.dumps(str(value.resolve()) if isinstance(value, Path) else value)}]")
    if problems:
        raise SettingsError(
            f"{settings.tune} sets {', '.join(problems)}: pilots need the same rules; set them here, too"
        )
    return found


def _check(settings: FilterSettings) -> None:
    problems = []
    if settings.sweep and not all(limit >= 0 for limit in settings.sweep_wer or (-1,)):
        problems.append(f"sweep_wer must name limits of 0 or more per cent, got {list(settings.sweep_wer)}")
    if settings.max_predicted_wer is None:
        if settings.weigh:
            problems.append("weigh needs max_predicted_wer: labels are weighed by their predicted error rate")
        if settings.proxy is not None:
            problems.append("proxy needs max_predicted_wer: a second opinion is for the prediction")
    elif not 0 <= settings.max_predicted_wer <= 100:
        problems.append(f"max_predicted_wer must be 0 to 100 per cent, got {settings.max_predicted_wer:g}")
    if problems:
        raise SettingsError("; ".join(problems))


def _prediction(settings: FilterSettings, store: "LabelStore") -> "Prediction | None":
    if settings.max_predicted_wer is None:
        return None
    from whisperstill.label.prediction import predict_store
    from whisperstill.label.store import open_labels

    return predict_store(store, open_labels(settings.proxy) if settings.proxy else None)


def _judged(
    store: "LabelStore", rules: RuleSettings, predicted: "Prediction | None", settings: FilterSettings
) -> Iterator[Judged]:
    """Every window with what the rules and the prediction say of its utterances."""
    expected = iter(predicted.wer if predicted else ())
    for labelled in store.labelled():
        judged = judge(labelled, rules)
        if predicted:
            judged = _doubted(judged, settings.max_predicted_wer or 0.0, settings.weigh, expected)
        yield judged


def _doubted(judged: Judged, most: float, weigh: bool, expected: Iterator[float]) -> Judged:
    """The same, without utterances that have no reference and are predicted to be worse than `most`; the others of them
    weighed, where that is asked for."""
    verdicts = []
    for seen, verdict in zip(judged.labelled.evidence, judged.verdicts, strict=True):
        value = float(next(expected))
        if verdict.kept and seen.edits is None and value > most:
            verdict = Verdict(False, PREDICTED, value)
        elif verdict.kept and seen.edits is None and weigh:
            verdict = replace(verdict, weight=round(1 - value / 100, 4))
        verdicts.append(verdict)
    return replace(judged, verdicts=tuple(verdicts))


def _show(everything: Tally, parts: dict[str, Tally], console: Console) -> None:
    table = [
        [
            name,
            str(tally.utterances),
            f"{tally.seconds / 3600:.2f}",
            f"{100 * tally.seconds / everything.seconds if everything.seconds else 0:.1f}",
            str(tally.words),
            "-" if tally.wer is None else f"{tally.wer:.1f}",
        ]
        for name, tally in {**parts, "all": everything}.items()
    ]
    console.table("what may teach", ["verdict", "utterances", "hours", "% of hours", "words", "WER %"], table)


def _write_sweep(directory: Path, sweep: Sweep, console: Console, when: str) -> None:
    from whisperstill.label.sweep_plot import plot

    points = sweep.points()
    console.table(f"what would be left{when}", COLUMNS, cells(points))
    content = {
        "whisperstill": __version__,
        "settings": jsonable(sweep.settings),
        "points": [jsonable(point) for point in points],
    }
    write_whole(directory / "sweep.json", json.dumps(content, indent=1) + "\n")
    write_whole(directory / "sweep.md", markdown(points))
    try:
        plot(points, directory / "sweep.png")
    except MissingExtraError as error:
        console.warn(str(error))
