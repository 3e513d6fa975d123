"""Long recordings: what is misheard by every strategy of taking them apart, and with chunks of every length."""

from whisperstill.evaluate.intervals import STRETCH
from whisperstill.evaluate.report.accuracy import GROUP, MEANS
from whisperstill.evaluate.report.blocks import (
    NOTHING,
    Chart,
    Point,
    Row,
    Section,
    Series,
    Table,
    Value,
    columns,
    row,
    without_empty_columns,
)
from whisperstill.evaluate.report.numbers import figure, one_of, rate, times
from whisperstill.evaluate.report.view import View, mean, mean_value
from whisperstill.records.findings import Cell, SetMeasured


def long_form(view: View) -> Section | None:
    """Long recordings, whole, by every strategy (the paper's table of sequential against chunked)."""
    if not view.long:
        return None
    sets = view.long_sets
    reference = _speed_reference(view)
    rows: list[Row] = []
    best: dict[str, list[str]] = {}
    for model in view.models:
        strategies = view.strategies(model.name)
        if strategies:
            rows.append(row(view.label(model.name), kind="group"))
        for strategy, cells in strategies.items():
            by_set = {cell.set: cell for cell in cells}
            found = (by_set.get(one.name) for one in sets)
            factor = _real_time_factor(cells)
            rows.append(
                row(
                    strategy,
                    *(rate(cell.wer, cell.wer_low, cell.wer_high) if cell else NOTHING for cell in found),
                    *((mean_value(cells, len(sets)),) if len(sets) > 1 else ()),
                    figure(1 / factor if factor else None),
                    times(reference[1] / factor if reference and factor else None),
                )
            )
        chosen = view.best_strategy(model.name)
        if chosen and len(strategies) > 1:
            best.setdefault(chosen[0], []).append(view.label(model.name))
    heads = [*(view.set_label(one) for one in sets), *(["Mean"] if len(sets) > 1 else [])]
    relative = (
        f"Relative speed: against {view.label(reference[0].model)}, {reference[0].decoding}. " if reference else ""
    )
    table = Table(
        id="long-form-strategies",
        title="Word error rate by strategy, %",
        columns=columns("Strategy", figures=(*heads, "× real time", "Relative speed")),
        rows=tuple(rows),
        caption=f"Each recording whole; intervals are over stretches of {STRETCH} words or so. {_others(view)}"
        f"{relative}{MEANS if len(sets) > 1 else ''}".strip(),
    )
    lead = f"Fewest errors {'; '.join(f'by {way}: {one_of(names)}' for way, names in best.items())}." if best else ""
    return Section("long-form", "Long form", GROUP, lead=lead, tables=(without_empty_columns(table),))


def _others(view: View) -> str:
    """What other engines do otherwise."""
    other = any(view.engine(name) != "whisperstill" for name, *_ in view.long)
    return (
        "Our engine decodes as it transcribes by default: again at higher temperatures where a window fails, and with "
        "guards; other engines greedily, without the text before a window. "
        if other
        else ""
    )


def _real_time_factor(cells: list[Cell]) -> float:
    hours = sum(cell.hours for cell in cells)
    return sum(cell.seconds for cell in cells) / (3600 * hours) if hours else 0.0


def _speed_reference(view: View) -> tuple[Cell, float] | None:
    """Whose speed is 1: the teacher's sequential decoding, or else its first strategy."""
    strategies = view.strategies(view.teacher.name) if view.teacher else {}
    cells = strategies.get("sequential") or next(iter(strategies.values()), None)
    return (cells[0], _real_time_factor(cells)) if cells and _real_time_factor(cells) else None


def chunk_length(view: View) -> Section | None:
    """Error rates by the length of chunks (the paper's table of chunk lengths)."""
    cells = view.select("chunk_length", clean=True)
    if not cells:
        return None
    names = [model.name for model in view.models if any(cell.model == model.name for cell in cells)]
    sets = [one for one in view.sets if any(cell.set == one.name for cell in cells)]
    lengths = sorted({cell.chunk_length for cell in cells}, reverse=True)
    at = {(cell.set, cell.chunk_length, cell.model): cell for cell in cells}
    rows: list[Row] = []
    for one in sets:
        if len(sets) > 1:
            rows.append(row(view.set_label(one), kind="group"))
        for length in lengths:
            found = [at.get((one.name, length, name)) for name in names]
            values = (rate(cell.wer, cell.wer_low, cell.wer_high) if cell else NOTHING for cell in found)
            rows.append(row(Value(f"{length:g}"), *values))
    table = Table(
        id="chunk-length-rates",
        title="Word error rate by length of chunk, %",
        columns=columns(figures=("Seconds", *map(view.label, names))),
        rows=tuple(rows),
        caption="Long recordings taken apart into chunks that overlap, joined by their words.",
    )
    charts = [_chunk_chart(view, one, place, at, lengths, names) for place, one in enumerate(sets) if len(lengths) > 1]
    best = []
    for name in names:
        means = {length: mean([c for c in cells if c.model == name and c.chunk_length == length]) for length in lengths}
        known = {length: found.value for length, found in means.items() if found}
        if len(known) > 1:
            length = min(known, key=lambda each: known[each])
            best.append(f"{view.label(name)} at {length:g} s ({figure(known[length])} %)")
    lead = f"Fewest errors: {one_of(best)}." if best else ""
    return Section("chunk-length", "Chunk length", GROUP, lead, tables=(table,), charts=tuple(charts))


def _chunk_chart(
    view: View,
    one: SetMeasured,
    place: int,
    at: dict[tuple[str, float, str], Cell],
    lengths: list[float],
    names: list[str],
) -> Chart:
    series = []
    for name in names:
        cells = ((length, at.get((one.name, length, name))) for length in sorted(lengths))
        points = (Point(length, cell.wer, cell.wer_low, cell.wer_high) for length, cell in cells if cell)
        series.append(Series(view.label(name), tuple(points), view.places[name]))
    return Chart(
        id=f"chunk-length-{place}",
        title=f"Chunk length, {one.name}",
        kind="lines",
        x_label="seconds of a chunk",
        y_label="WER %",
        series=tuple(series),
        ticks=tuple((length, f"{length:g}") for length in sorted(lengths)),
    )
