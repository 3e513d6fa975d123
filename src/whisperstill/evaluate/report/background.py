"""Where the figures come from: slices of sets, the training, what failed, and models, sets and circumstances."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from whisperstill.evaluate.report.blocks import (
    NOTHING,
    Chart,
    Point,
    Section,
    Series,
    Table,
    Value,
    columns,
    row,
    without_empty_columns,
)
from whisperstill.evaluate.report.numbers import count, figure, millions, rate
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import Cell, Slice, Training

GROUP = "Background"


def slices(view: View) -> Section | None:
    """Error rates speaker by speaker and by duration, one folded table a set."""
    tables = []
    for place, one in enumerate(view.short_sets):
        cells = [view.short[model.name, one.name] for model in view.models if (model.name, one.name) in view.short]
        for what, key in (("speaker", "by_speaker"), ("duration", "by_duration")):
            found = {cell.model: {each.name: each for each in getattr(cell, key)} for cell in cells}
            if any(found.values()):
                title = f"{view.set_label(one)}, by {what}"
                tables.append(_slice_table(view, f"slices-{place}-{what}", title, what, found))
    if not tables:
        return None
    lead = _speaker_lead(view)
    return Section("slices", "Speakers and durations", GROUP, lead, tables=tuple(tables))


def _slice_table(view: View, id: str, title: str, what: str, found: Mapping[str, Mapping[str, Slice]]) -> Table:
    names = list(dict.fromkeys(name for by_name in found.values() for name in by_name))
    some = {name: next(by_name[name] for by_name in found.values() if name in by_name) for name in names}
    if what == "speaker":
        main = found.get(view.main.name, {}) if view.main else {}
        names.sort(key=lambda name: -main[name].wer if name in main else 0.0)
    models = [model for model, by_name in found.items() if by_name]
    return Table(
        id=id,
        title=title,
        columns=columns(what.capitalize(), figures=("Utterances", "Words", *map(view.label, models))),
        rows=tuple(
            row(
                name,
                count(some[name].utterances),
                count(some[name].words),
                *(_slice_rate(found[model].get(name)) for model in models),
            )
            for name in names
        ),
        caption="Word error rate, %.",
        folded=True,
    )


def _slice_rate(one: Slice | None) -> Value:
    return rate(one.wer, one.wer_low, one.wer_high) if one else NOTHING


def _speaker_lead(view: View) -> str:
    cells: Sequence[Cell] = view.short_cells(view.main.name) if view.main else []
    spoken = [(each.wer, each.name, cell.set) for cell in cells for each in cell.by_speaker if each.words]
    if view.main is None or len(spoken) < 2:
        return ""
    (least, first, there), (most, last, where) = min(spoken), max(spoken)
    return (
        f"{view.label(view.main.name)} makes {figure(least)} errors in 100 words of the easiest speaker "
        f"({first}, {there}) and {figure(most)} of the hardest ({last}, {where})."
    )


def training(view: View) -> Section | None:
    """Loss and validation error by step, and what the filter kept and dropped."""
    found = [one for one in view.findings.trainings if one.points or one.filtered]
    if not found:
        return None
    charts = (
        _curves(view, found, "training-loss", "Training loss", "loss, nats a token, logarithmic", "loss"),
        _curves(view, found, "training-wer", "Validation", "WER % on validation", "validation_wer"),
    )
    tables = (_ledger(view, [one for one in found if one.filtered]),)
    return Section(
        id="training",
        title="Training",
        group=GROUP,
        lead=_training_lead(view, found),
        tables=tuple(table for table in tables if table),
        charts=tuple(chart for chart in charts if chart),
    )


def _curves(view: View, found: list[Training], id: str, title: str, label: str, field: str) -> Chart | None:
    series = []
    for place, one in enumerate(found):
        known = ((point.step, getattr(point, field)) for point in one.points)
        points = tuple(Point(step, value) for step, value in known if value is not None)
        if len(points) > 1:
            series.append(Series(view.label(one.model), _thinned(points), view.places.get(one.model, place + 1)))
    log = field == "loss" and all(point.y > 0 for one in series for point in one.points)
    label = label if log or field != "loss" else label.removesuffix(", logarithmic")
    return Chart(id, title, "lines", "step", label, tuple(series), log_y=log) if series else None


def _thinned(points: tuple[Point, ...], most: int = 300) -> tuple[Point, ...]:
    """At most so many points: of each run of neighbours the mean, since nobody sees more."""
    run = -(-len(points) // most)
    parts = [points[first : first + run] for first in range(0, len(points), run)]
    return tuple(Point(part[-1].x, sum(point.y for point in part) / len(part)) for part in parts)


def _training_lead(view: View, found: list[Training]) -> str:
    said = []
    for one in found:
        checked = [(point.validation_wer, point.step) for point in one.points if point.validation_wer is not None]
        if checked:
            best, step = min(checked)
            last = max(point.step for point in one.points)
            said.append(f"{view.label(one.model)}: best at step {count(step)} of {count(last)} ({figure(best)} %).")
    return " ".join(said)


def _ledger(view: View, found: list[Training]) -> Table | None:
    if not found:
        return None
    rules = list(dict.fromkeys(rule for one in found for rule in one.filtered))
    rules.sort(key=lambda rule: (rule != "kept", -max(one.filtered.get(rule, 0) for one in found)))
    totals = [sum(one.filtered.values()) for one in found]
    return Table(
        id="training-ledger",
        title="What the filter kept and dropped",
        columns=columns("Verdict", figures=tuple(f"{view.label(one.model)}, windows" for one in found)),
        rows=(
            *(
                row(
                    rule.replace("_", " "),
                    *(_share(one, rule, total) for one, total in zip(found, totals, strict=True)),
                )
                for rule in rules
            ),
            row("all", *map(count, totals), kind="total"),
        ),
        caption="Counted by the first rule that objects.",
    )


def _share(one: Training, rule: str, total: int) -> Value:
    number = one.filtered.get(rule, 0)
    return Value(count(number), f"({figure(100 * number / total)} %)" if total else "")


def failures(view: View) -> Section | None:
    """What could not be measured."""
    found = view.findings.failures
    if not found:
        return None
    table = Table(
        id="failures-list",
        title="Not measured",
        columns=columns("What", "Why"),
        rows=tuple(row(one.what, one.reason) for one in found),
        folded=len(found) > 20,
    )
    return Section("failures", "Failures", GROUP, tables=(table,))


def provenance(view: View) -> Section | None:
    """Who was measured on what, with which versions, on which machine."""
    tables = [table for table in (_models(view), _sets(view), _circumstances(view)) if table.rows]
    return Section("provenance", "Provenance", GROUP, tables=tuple(tables)) if tables else None


def _models(view: View) -> Table:
    table = Table(
        id="provenance-models",
        title="Models",
        columns=columns(
            *("Model", "Role", "Engine", "Number type", "Device", "From", "SHA-256"),
            figures=("Parameters, M", "Encoder", "Decoder", "Embedding", "Encoder layers", "Decoder layers"),
        ),
        rows=tuple(
            row(
                view.label(one.name),
                *(one.role or NOTHING, one.engine, one.dtype or NOTHING, one.device or NOTHING),
                *(one.source or NOTHING, one.sha256[:12] or NOTHING),
                *map(millions, (one.parameters, one.parameters_encoder, one.parameters_decoder)),
                millions(one.parameters_embedding),
                *(count(layers) if layers else NOTHING for layers in (one.encoder_layers, one.decoder_layers)),
            )
            for one in view.models
        ),
    )
    return without_empty_columns(table)


def _sets(view: View) -> Table:
    table = Table(
        id="provenance-sets",
        title="Sets",
        columns=columns(
            *("Set", "Distribution", "Form", "Language", "Normaliser", "Counted", "SHA-256"),
            figures=("Utterances", "Hours", "Words"),
        ),
        rows=tuple(
            row(
                one.name,
                NOTHING if one.non_speech else "in" if one.in_distribution else "out of",
                "no speech" if one.non_speech else "long" if one.long else "short",
                *(one.language or NOTHING, one.normaliser or NOTHING, f"{one.unit}s" if one.unit else NOTHING),
                one.sha256[:12] or NOTHING,
                count(one.utterances),
                figure(one.hours, 2),
                count(one.words),
            )
            for one in view.sets
        ),
    )
    return without_empty_columns(table)


def _circumstances(view: View) -> Table:
    return Table(
        id="provenance-circumstances",
        title="Circumstances",
        columns=columns("What", "Value"),
        rows=tuple(row(key, text) for key, text in _flat(view.findings.provenance)),
    )


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{key}.")
        elif isinstance(value, list | tuple) and all(isinstance(each, str | int | float) for each in value):
            rows.append((f"{before}{key}", " ".join(map(str, value))))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            rows.append((f"{before}{key}", text))
    return rows
