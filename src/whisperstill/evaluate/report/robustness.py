"""Whether what was learned holds elsewhere: effective robustness over sets, noise of every kind, other channels."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from whisperstill.evaluate.report.numbers import chance, difference, figure, one_of, rate, signed, times
from whisperstill.evaluate.report.view import CLEAN, View, condition_words, mean_of, noise_of
from whisperstill.records.findings import Cell, ModelMeasured

GROUP = "Robustness"


def effective_robustness(view: View) -> Section | None:
    """How much more than the teacher a model misses, set by set, against the set it was trained for."""
    if view.teacher is None:
        return None
    teacher = view.label(view.teacher.name)
    rows: list[Row] = []
    leads, charts = [], []
    for model in view.contenders:
        pairs = [(c, t) for c in view.short_cells(model.name) if (t := view.of_teacher(c)) and t.wer]
        if not pairs:
            continue
        ratios = {cell.set: _ratio(cell, of_teacher) for cell, of_teacher in pairs}
        near = [ratios[one.name] for one in view.short_sets if one.in_distribution and one.name in ratios]
        far = [ratios[one.name] for one in view.short_sets if not one.in_distribution and one.name in ratios]
        if len(view.contenders) > 1:
            rows.append(row(view.label(model.name), kind="group"))
        rows += [_pair_row(cell, of_teacher, ratios[cell.set]) for cell, of_teacher in pairs]
        if len(far) > 1:
            rows.append(row("Mean out of distribution", "", "", "", _average(far).value, "", kind="total"))
        leads.append(_lead(view, model, near, far))
        charts.append(_chart(view, model, pairs, _average(near).middle if near else None))
    if not rows:
        return None
    table = Table(
        id="robustness-sets",
        title="Difference to the teacher by set",
        columns=columns("Set", figures=(f"{teacher}, WER %", "WER %", "Difference (95 %)", "RER % (95 %)", "p")),
        rows=tuple(rows),
        caption="RER = (WER − WER of the teacher) / WER of the teacher: what is lost in proportion. Difference in "
        "points, by paired bootstrap on the same utterances; RER's interval is the difference's over the teacher's "
        "rate. Effectively robust is whose RER out of distribution is no larger than in distribution.",
    )
    return Section(
        id="robustness",
        title="Effective robustness",
        group=GROUP,
        lead=" ".join(filter(None, leads)),
        tables=(without_empty_columns(table),),
        charts=tuple(charts),
    )


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A relative error rate, per cent, and the ends of its interval, where that is known."""

    middle: float
    low: float | None = None
    high: float | None = None

    @property
    def value(self) -> Value:
        if self.low is None or self.high is None:
            return Value(signed(self.middle, 0))
        return difference(self.middle, self.low, self.high, digits=0)


def _ratio(cell: Cell, teacher: Cell) -> _Ratio:
    middle, pair = 100 * (cell.wer - teacher.wer) / teacher.wer, cell.against_teacher
    return _Ratio(middle, 100 * pair.low / teacher.wer, 100 * pair.high / teacher.wer) if pair else _Ratio(middle)


def _average(ratios: Sequence[_Ratio]) -> _Ratio:
    found = mean_of((one.middle, one.low, one.high) for one in ratios if one.low is not None and one.high is not None)
    if found is None or found.sets < len(ratios):
        return _Ratio(sum(one.middle for one in ratios) / len(ratios))
    return _Ratio(found.value, found.low, found.high)


def _pair_row(cell: Cell, teacher: Cell, ratio: _Ratio) -> Row:
    pair = cell.against_teacher
    return row(
        cell.set,
        figure(teacher.wer),
        figure(cell.wer),
        difference(pair.difference, pair.low, pair.high) if pair else signed(cell.wer - teacher.wer),
        ratio.value,
        chance(pair.p) if pair else NOTHING,
    )


def _lead(view: View, model: ModelMeasured, near: list[_Ratio], far: list[_Ratio]) -> str:
    """Whether more is lost out of distribution, where intervals that lie apart say so."""
    if not near or not far:
        return ""
    here, there = _average(near), _average(far)
    said = "loses as much, as far as can be told, where the data are new"
    if there.middle <= here.middle:
        said = "loses no more where the data are new"
    elif there.low is None or here.high is None or there.low > here.high:
        said = "loses more where the data are new"
    rates = f"RER {signed(there.middle, 0)} % out of distribution, {signed(here.middle, 0)} % in distribution"
    return f"{view.label(model.name)} {said}: {rates}."


def _chart(view: View, model: ModelMeasured, pairs: list[tuple[Cell, Cell]], near: float | None) -> Chart:
    points = []
    for place, (cell, teacher) in enumerate(pairs):
        ratio = _ratio(cell, teacher)
        points.append(Point(ratio.middle, place, ratio.low, ratio.high))
    return Chart(
        id=f"robustness-{view.places[model.name]}",
        title=f"Effective robustness, {view.label(model.name)}",
        kind="dots",
        x_label="RER %, with 95 % intervals",
        y_label="",
        series=(Series(view.label(model.name), tuple(points), view.places[model.name]),),
        rows=tuple(cell.set for cell, _ in pairs),
        mark=near,
        mark_label="in distribution",
    )


def noise(view: View) -> Section | None:
    """Error rates over signal-to-noise ratio, one curve a model, one chart a kind of noise."""
    cells = [cell for cell in _spoiled(view) if noise_of(cell)]
    if not cells:
        return None
    tables, charts, leads = [], [], []
    sets = [one for one in view.sets if any(cell.set == one.name for cell in cells)]
    for place, one in enumerate(sets):
        inside = [cell for cell in cells if cell.set == one.name]
        names = [model.name for model in view.models if any(cell.model == model.name for cell in inside)]
        rows: list[Row] = []
        if clean := _clean(view, one.name, names, inside[0].utterances):
            rows.append(row("none", NOTHING, *_rates(clean)))
        for number, kind in enumerate(dict.fromkeys(_kind(cell) for cell in inside)):
            at = {(cell.model, _decibel(cell)): cell for cell in inside if _kind(cell) == kind}
            levels = sorted({decibel for _, decibel in at}, reverse=True)
            for decibel in levels:
                label = f"{decibel:g}".replace("-", "−")
                rows.append(row(kind, label, *_rates([at.get((name, decibel)) for name in names])))
            charts.append(_noise_chart(view, f"noise-{place}-{number}", f"{kind}, {one.name}", at, levels, names))
            leads.append(_noise_lead(view, kind, at, levels))
        tables.append(
            Table(
                id=f"noise-{place}",
                title=f"Word error rate in noise, {one.name}, %",
                columns=columns("Noise", figures=("SNR, dB", *map(view.label, names))),
                rows=tuple(rows),
                caption="SNR: signal-to-noise ratio; at 0 dB the noise is as loud as the speech.",
                folded=len(rows) > 12,
            )
        )
    lead = " ".join(filter(None, leads)) if len(sets) == 1 else ""
    return Section("noise", "Noise", GROUP, lead, tables=tuple(tables), charts=tuple(charts))


def _spoiled(view: View) -> list[Cell]:
    return [c for c in view.findings.cells if c.condition not in ("", CLEAN) and c.measurement != "non_speech"]


def _clean(view: View, name: str, models: Sequence[str], utterances: int) -> list[Cell]:
    """Cells of the same utterances as they were recorded; none, where a model lacks one."""
    found = {cell.model: cell for cell in view.findings.cells if cell.set == name and cell.condition == CLEAN}
    cells = (found.get(model) or view.short.get((model, name)) for model in models)
    known = [cell for cell in cells if cell and cell.utterances == utterances]
    return known if len(known) == len(models) else []


def _kind(cell: Cell) -> str:
    found = noise_of(cell)
    return found[0] if found else ""


def _decibel(cell: Cell) -> float:
    found = noise_of(cell)
    return found[1] if found else 0.0


def _rates(cells: Sequence[Cell | None]) -> list[Value]:
    return [rate(cell.wer, cell.wer_low, cell.wer_high) if cell else NOTHING for cell in cells]


def _noise_chart(
    view: View,
    id: str,
    title: str,
    at: dict[tuple[str, float], Cell],
    levels: list[float],
    names: list[str],
) -> Chart:
    series = []
    for name in names:
        cells = ((decibel, at.get((name, decibel))) for decibel in levels)
        points = (Point(level, cell.wer, cell.wer_low, cell.wer_high) for level, cell in cells if cell and cell.wer > 0)
        series.append(Series(view.label(name), tuple(points), view.places[name]))
    return Chart(
        id=id,
        title=title,
        kind="lines",
        x_label="signal-to-noise ratio, dB",
        y_label="WER %, logarithmic",
        series=tuple(series),
        log_y=True,
        descending=True,
    )


def _noise_lead(view: View, kind: str, at: dict[tuple[str, float], Cell], levels: list[float]) -> str:
    """The main model's rate over the teacher's at both ends."""
    if view.teacher is None or view.main is None or len(levels) < 2:
        return ""
    ratios = []
    for level in (levels[0], levels[-1]):
        own, teachers = at.get((view.main.name, level)), at.get((view.teacher.name, level))
        if not own or not teachers or not teachers.wer:
            return ""
        decibel = f"{level:g}".replace("-", "−")
        ratios.append(f"{times(own.wer / teachers.wer)} at {decibel} dB")
    them = view.label(view.teacher.name)
    return f"In noise ({kind}) {view.label(view.main.name)} makes the errors of {them} {one_of(ratios)}."


def channels(view: View) -> Section | None:
    """Error rates of sound that was spoiled in other ways than by noise."""
    cells = [cell for cell in _spoiled(view) if not noise_of(cell)]
    if not cells:
        return None
    names = [model.name for model in view.models if any(cell.model == model.name for cell in cells)]
    sets = [one for one in view.sets if any(cell.set == one.name for cell in cells)]
    rows: list[Row] = []
    worst: tuple[float, str] | None = None
    for one in sets:
        inside = [cell for cell in cells if cell.set == one.name]
        if len(sets) > 1:
            rows.append(row(view.set_label(one), kind="group"))
        if clean := _clean(view, one.name, names, inside[0].utterances):
            rows.append(row("as recorded", *_rates(clean)))
        for condition in dict.fromkeys(cell.condition for cell in inside):
            at = {cell.model: cell for cell in inside if cell.condition == condition}
            rows.append(row(condition_words(condition), *_rates([at.get(name) for name in names])))
            own = view.main and at.get(view.main.name)
            if own and (worst is None or own.wer > worst[0]):
                worst = (own.wer, condition_words(condition) + (f" on {one.name}" if len(sets) > 1 else ""))
    table = Table(
        id="channel-rates",
        title="Word error rate by condition, %",
        columns=columns("Condition", figures=tuple(map(view.label, names))),
        rows=tuple(rows),
        caption="The same utterances, sent through other channels.",
    )
    name = view.label(view.main.name) if view.main else ""
    lead = f"Hardest for {name}: {worst[1]} ({figure(worst[0])} %)." if worst else ""
    return Section("channels", "Channels", GROUP, lead, tables=(table,))
