"""How much is misheard: the headline, and every set of the short form."""

from whisperstill.evaluate.report.blocks import (
    NOTHING,
    Chart,
    Column,
    Point,
    Row,
    Section,
    Series,
    Table,
    columns,
    row,
    without_empty_columns,
)
from whisperstill.evaluate.report.numbers import count, figure, millions, one_of, rate, times
from whisperstill.evaluate.report.view import View, mean, mean_value
from whisperstill.records.findings import SetMeasured

GROUP = "Accuracy"
MEANS = "Means count every set the same; their intervals take the sets as independent."


def headline(view: View) -> Section | None:
    """Parameters, speed and error rates of every model (the paper's first table)."""
    if not view.models:
        return None
    near = [one for one in view.short_sets if one.in_distribution]
    far = [one for one in view.short_sets if not one.in_distribution]
    rows = []
    for model in view.models:
        long = view.best_strategy(model.name, view.far_long_sets)
        rows.append(
            row(
                view.label(model.name),
                millions(model.parameters),
                times(view.relative_speed(model.name)),
                mean_value(view.short_cells(model.name, in_distribution=True), len(near)),
                mean_value(view.short_cells(model.name, in_distribution=False), len(far)),
                mean_value(long[1], len(view.far_long_sets)) if long else NOTHING,
                long[0] if long else NOTHING,
            )
        )
    where = "" if all(one.in_distribution for one in view.far_long_sets) else ", out of distribution"
    heads = columns(
        "Model",
        figures=(
            *("Parameters, M", "Relative speed", "WER %, short form, in distribution"),
            *("WER %, short form, out of distribution", f"WER %, long form{where}"),
        ),
    )
    notes = [MEANS] if max(len(near), len(far), len(view.far_long_sets)) > 1 else []
    if any(view.relative_speed(model.name) for model in view.models):
        notes.append("Relative speed: the teacher's latency at batch 1 over the model's.")
    if view.long:
        notes.append("Long form: each model by the strategy that suits it best.")
    table = Table(
        id="headline-models",
        title="Size, speed and word error rate",
        columns=(*heads, Column("Strategy", numeric=False)),
        rows=tuple(rows),
        caption=" ".join(notes),
    )
    return Section("headline", "Headline", GROUP, tables=(without_empty_columns(table),), charts=_cost_chart(view))


def _cost_chart(view: View) -> tuple[Chart, ...]:
    far = any(not one.in_distribution for one in view.short_sets)
    found = []
    for model in view.models:
        rates = mean(view.short_cells(model.name, in_distribution=False if far else None))
        speed = view.relative_speed(model.name)
        if rates and speed:
            point = Point(speed, rates.value, rates.low, rates.high)
            found.append(Series(view.label(model.name), (point,), view.places[model.name]))
    if len(found) < 2:
        return ()
    where = "out of distribution" if far else "short form"
    chart = Chart(
        id="cost",
        title="What speed costs",
        kind="scatter",
        x_label="relative speed at batch 1 (more is faster)",
        y_label=f"WER %, {where}",
        series=tuple(found),
    )
    return (chart,)


def short_form(view: View) -> Section | None:
    """Every set of the short form, every model."""
    if not view.short:
        return None
    names = [model.name for model in view.models if view.short_cells(model.name)]
    near = [one for one in view.short_sets if one.in_distribution]
    far = [one for one in view.short_sets if not one.in_distribution]
    rows: list[Row] = []
    for title, sets in (("In distribution", near), ("Out of distribution", far)):
        if near and far:
            rows.append(row(title, kind="group"))
        rows += [_set_row(view, one, names) for one in sets]
        if len(sets) > 1:
            means = (mean_value(view.short_cells(name, in_distribution=sets is near), len(sets)) for name in names)
            rows.append(row("Mean", count(sum(one.words for one in sets)), *means, kind="total"))
    table = Table(
        id="short-form-sets",
        title="Word error rate by set, %",
        columns=columns("Set", figures=("Words", *map(view.label, names))),
        rows=tuple(rows),
        caption=f"In brackets 95 % intervals by bootstrap over utterances. {MEANS if len(view.short_sets) > 1 else ''}",
    )
    return Section(
        id="short-form",
        title="Short form",
        group=GROUP,
        lead=_against_teacher(view),
        tables=(table, _details(view)),
        charts=_set_chart(view, names),
    )


def _set_row(view: View, one: SetMeasured, names: list[str]) -> Row:
    cells = (view.short.get((name, one.name)) for name in names)
    rates = (rate(cell.wer, cell.wer_low, cell.wer_high) if cell else NOTHING for cell in cells)
    return row(view.set_label(one), count(one.words), *rates)


def _against_teacher(view: View) -> str:
    """How many sets show a difference to the teacher that is more than chance."""
    sentences = []
    for model in view.contenders:
        pairs = [cell.against_teacher for cell in view.short_cells(model.name) if cell.against_teacher]
        if not pairs or view.teacher is None:
            continue
        worse = sum(pair.low > 0 for pair in pairs)
        better = sum(pair.high < 0 for pair in pairs)
        found = {"worse": worse, "better": better, "not clearly either": len(pairs) - worse - better}
        parts = [f"{what} on {number}" for what, number in found.items() if number]
        tail = "sets" if len(parts) == 1 else f"of {len(pairs)} sets"
        if len(parts) == 1 and len(pairs) > 1:
            parts = [part.replace(" on ", " on all ") for part in parts]
        sentences.append(f"{view.label(model.name)} {one_of(parts)} {tail if len(pairs) > 1 else 'set'}")
    return f"Against {view.label(view.teacher.name)}: {'; '.join(sentences)}." if sentences and view.teacher else ""


def _set_chart(view: View, names: list[str]) -> tuple[Chart, ...]:
    sets = view.short_sets
    if len(sets) * len(names) < 2:
        return ()
    series = []
    for name in names:
        cells = ((place, view.short.get((name, one.name))) for place, one in enumerate(sets))
        points = (Point(cell.wer, place, cell.wer_low, cell.wer_high) for place, cell in cells if cell)
        series.append(Series(view.label(name), tuple(points), view.places[name]))
    chart = Chart(
        id="short-form-chart",
        title="Word error rate by set",
        kind="dots",
        x_label="WER %, with 95 % intervals",
        y_label="",
        series=tuple(series),
        rows=tuple(view.set_label(one) for one in sets),
    )
    return (chart,)


def _details(view: View) -> Table:
    cells = view.select("short_form", clean=True)
    return without_empty_columns(
        Table(
            id="short-form-details",
            title="All error rates of the short form",
            columns=columns(
                *("Set", "Model"),
                figures=(
                    *("WER %", "CER %", "As written, %", "Substituted", "Deleted", "Inserted"),
                    *("Same text as the teacher, %", "Utterances", "Real-time factor"),
                ),
            ),
            rows=tuple(
                row(
                    cell.set,
                    view.label(cell.model),
                    rate(cell.wer, cell.wer_low, cell.wer_high),
                    rate(cell.cer, cell.cer_low, cell.cer_high),
                    figure(cell.wer_orthographic),
                    *map(count, (cell.substitutions, cell.deletions, cell.insertions)),
                    figure(cell.agreement),
                    count(cell.utterances),
                    figure(cell.real_time_factor or None, 3),
                )
                for cell in cells
            ),
            caption="As written: word error rate with case and punctuation. Real-time factor: seconds of work for a "
            "second of sound, batched.",
            folded=True,
        )
    )
