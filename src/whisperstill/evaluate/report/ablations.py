"""One setting varied: the filter's threshold, hours of data, decoder layers, the objective, and any other.

Four of them have the form of the paper's tables; whatever else was varied looks the same.
"""

import re
from dataclasses import dataclass

from whisperstill.evaluate.report.blocks import (
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
from whisperstill.evaluate.report.numbers import count, figure, millions, one_of, rate, times
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import Ablation, AblationRow

GROUP = "Ablations"


@dataclass(frozen=True, slots=True)
class _Known:
    title: str
    name: str
    value: str
    axis: str
    log: bool = False


_KNOWN = {
    "max_wer": _Known("Filter threshold λ", "λ", "λ, WER %", "λ: most word errors of a label against its reference, %"),
    "hours": _Known("Data size", "hours", "Hours", "hours trained on", log=True),
    "decoder_layers": _Known("Decoder layers", "layers", "Layers", "decoder layers of the student"),
    "layers": _Known("Which layers", "layers", "Layers", "decoder layers of the teacher"),
    "objective": _Known("Objective", "objective", "Objective", "objective"),
    "chunk_length": _Known("Chunk length of the student", "seconds", "Seconds", "seconds of a chunk"),
    "temperature": _Known("Temperature", "T", "T", "temperature of the KL divergence"),
}

_FACTS = {
    "dropped": ("Dropped, %", figure),
    "kept_hours": ("Hours kept", figure),
    "hours": ("Hours", figure),
    "windows": ("Windows", count),
    "steps": ("Steps", count),
    "parameters": ("Parameters, M", lambda value: _millions(value)),
    "parameters_decoder": ("of them decoder, M", lambda value: _millions(value)),
    "relative_speed": ("Relative speed", times),
    "relative_decoder_speed": ("of the decoder", times),
    "validation_wer": ("Validation WER %", figure),
}
"""Fact -> its column and how it is written; others by their name, as they are."""


def ablations(view: View) -> list[Section]:
    """A section for everything that was varied."""
    return [_section(ablation, place) for place, ablation in enumerate(view.findings.ablations) if ablation.rows]


def _section(ablation: Ablation, place: int) -> Section:
    known = _KNOWN.get(ablation.name)
    title = known.title if known else ablation.name.replace("_", " ").capitalize()
    id = f"ablation-{place}-{re.sub(r'[^a-z0-9]+', '-', ablation.name.lower())}"
    sets = list(dict.fromkeys(name for one in ablation.rows for name in one.wer))
    facts = [name for name in _FACTS if name != ablation.name and any(name in one.facts for one in ablation.rows)]
    facts += sorted({name for one in ablation.rows for name in one.facts} - {*_FACTS, ablation.name})
    alike = [name for name in facts if len(ablation.rows) > 1 and len({_told(one, name) for one in ablation.rows}) == 1]
    facts = [name for name in facts if name not in alike]
    heads = [_head(name) for name in facts]
    of_all = (
        f" Of all: {'; '.join(f'{_head(name)} {_told(ablation.rows[0], name)}' for name in alike)}." if alike else ""
    )
    several = len(sets) > 1
    table = Table(
        id=f"{id}-rates",
        title="Word error rate by value, %",
        columns=columns(
            known.value if known else ablation.name,
            figures=("Mean WER %", *(sets if several else ()), *heads, "Seeds"),
        ),
        rows=tuple(_row(one, facts, sets if several else []) for one in ablation.rows),
        caption=f"{ablation.setting} varied, all else as the recipe has it. {_mean_of(ablation, sets)} In brackets "
        f"95 % intervals over seeds and utterances.{of_all}",
    )
    tables = [without_empty_columns(table)]
    if any(len(seeds) > 1 for one in ablation.rows for seeds in one.wer.values()):
        tables.append(_seeds(ablation, f"{id}-seeds", known.value if known else ablation.name))
    return Section(
        id=id,
        title=title,
        group=GROUP,
        lead=_lead(ablation, known.name if known else ablation.name),
        tables=tuple(tables),
        charts=(_chart(ablation, id, title, known),),
    )


def _row(one: AblationRow, facts: list[str], sets: list[str]) -> Row:
    return row(
        one.value,
        rate(one.mean, one.low, one.high),
        *(figure(_average(one.wer.get(name, {}))) for name in sets),
        *(Value(_told(one, name)) for name in facts),
        count(max((len(seeds) for seeds in one.wer.values()), default=1)),
    )


def _head(name: str) -> str:
    return _FACTS[name][0] if name in _FACTS else name


def _told(one: AblationRow, name: str) -> str:
    value = one.facts.get(name)
    if value is None:
        return figure(None)
    return str(_FACTS[name][1](value)) if name in _FACTS else f"{value:g}"


def _millions(value: float) -> str:
    return millions(round(value)) if value >= 1e5 else figure(value)


def _average(seeds: dict[str, float]) -> float | None:
    return sum(seeds.values()) / len(seeds) if seeds else None


def _mean_of(ablation: Ablation, sets: list[str]) -> str:
    over = [name for name in sets if name in ablation.mean_over]
    return f"The mean is over {one_of(over)}." if 0 < len(over) < len(sets) else "The mean is over all sets."


def _seeds(ablation: Ablation, id: str, value: str) -> Table:
    seeds = list(dict.fromkeys(seed for one in ablation.rows for by_seed in one.wer.values() for seed in by_seed))
    return Table(
        id=id,
        title="Seed by seed",
        columns=columns(value, "Set", figures=tuple(f"seed {seed}" for seed in seeds)),
        rows=tuple(
            row(one.value, name, *(figure(by_seed.get(seed)) for seed in seeds))
            for one in ablation.rows
            for name, by_seed in one.wer.items()
        ),
        folded=True,
    )


def _lead(ablation: Ablation, value: str) -> str:
    if len(ablation.rows) < 2:
        return ""
    best = min(ablation.rows, key=lambda one: one.mean)
    alike = [one.value for one in ablation.rows if one is not best and one.low <= best.high and best.low <= one.high]
    least = rate(best.mean, best.low, best.high)
    tail = f" The intervals of {', '.join(alike)} overlap with that." if alike else " No other interval reaches that."
    if len(alike) == len(ablation.rows) - 1:
        tail = " All other intervals overlap with that."
    return f"Fewest errors with {value} = {best.value}: {least} %.{tail}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _chart(ablation: Ablation, id: str, title: str, known: _Known | None) -> Chart:
    numbers = [_number(one.value) for one in ablation.rows]
    axis = known.axis if known else ablation.name
    rows = ablation.rows
    if len(rows) > 1 and sum(number is not None for number in numbers) > len(rows) / 2:
        exact = known is not None and known.log and all(number is not None and number > 0 for number in numbers)
        places = [float(number or 0) if exact else float(place) for place, number in enumerate(numbers)]
        points = sorted(
            (Point(place, one.mean, one.low, one.high) for place, one in zip(places, rows, strict=True)),
            key=lambda point: point.x,
        )
        ticks = tuple((place, one.value) for place, one in zip(places, rows, strict=True))
        series = (Series("mean WER", tuple(points), 1),)
        return Chart(
            id=f"{id}-chart",
            title=title,
            kind="lines",
            x_label=axis,
            y_label="mean WER %",
            series=series,
            ticks=ticks,
            log_x=exact,
            from_zero=max(one.high for one in rows) > 2 * min(one.low for one in rows),
        )
    found = tuple(Point(one.mean, place, one.low, one.high) for place, one in enumerate(rows))
    return Chart(
        id=f"{id}-chart",
        title=title,
        kind="dots",
        x_label="mean WER %, with 95 % intervals",
        y_label="",
        series=(Series("mean WER", found, 1),),
        rows=tuple(one.value for one in rows),
    )
