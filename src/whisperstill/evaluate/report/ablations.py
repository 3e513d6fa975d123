"""Ablations: error rates of students trained with different values of one setting.

WER threshold, data size, decoder layers and objective have the form of the paper's tables; any other setting is
shown in the same form.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from whisperstill.evaluate.report.blocks import Chart, Point, Section, Series, Table, make_columns, make_row
from whisperstill.evaluate.report.formatting import (
    format_count,
    format_millions,
    format_number,
    format_rate,
    format_ratio,
    join_names,
)
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import Ablation, AblationRow

TOC_HEADING = "Ablations"


@dataclass(frozen=True, slots=True)
class _AblationInfo:
    title: str
    name: str
    column_title: str
    axis_label: str
    log_scale: bool = False


_ABLATION_INFO = {
    "max_wer": _AblationInfo("WER threshold λ", "λ", "λ, WER %", "λ: largest WER of a pseudo-label that is kept, %"),
    "subset_hours": _AblationInfo("Data size", "hours", "Hours", "hours of training data", log_scale=True),
    "decoder_layers": _AblationInfo("Decoder layers", "layers", "Layers", "decoder layers of the student"),
    "layers": _AblationInfo("Copied layers", "layers", "Layers", "decoder layers copied from the teacher"),
    "objective": _AblationInfo("Objective", "objective", "Objective", "objective"),
    "chunk_length": _AblationInfo("Chunk length", "chunk length", "Seconds", "chunk length, s"),
    "temperature": _AblationInfo("Temperature", "T", "T", "temperature of the KL loss"),
}

_STAT_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "percent_dropped": ("Dropped, %", format_number),
    "hours_kept": ("Hours kept", format_number),
    "hours": ("Hours", format_number),
    "windows": ("Windows", format_count),
    "steps": ("Steps", format_count),
    "parameters": ("Parameters, M", lambda value: _format_parameters(value)),
    "parameters_decoder": ("Decoder parameters, M", lambda value: _format_parameters(value)),
    "relative_speed": ("Relative speed", format_ratio),
    "relative_decoder_speed": ("Relative decoder speed", format_ratio),
    "validation_wer": ("Validation WER %", format_number),
}
"""Statistic -> column title and formatter; other statistics have their own name as title."""


def build_ablation_sections(view: ResultsView) -> list[Section]:
    """One section per ablation."""
    return [
        _build_section(ablation, index) for index, ablation in enumerate(view.eval_results.ablations) if ablation.rows
    ]


def _build_section(ablation: Ablation, index: int) -> Section:
    name, rows = ablation.name, ablation.rows
    default_info = _AblationInfo(name.replace("_", " ").capitalize(), name, name, name)
    info = _ABLATION_INFO.get(name, default_info)
    section_id = f"ablation-{index}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
    datasets = list(dict.fromkeys(dataset for row in rows for dataset in row.wer))
    shown_datasets = datasets if len(datasets) > 1 else []
    # 1. Statistics that are the same in all rows go to the caption, the others to columns.
    measured = {stat for row in rows for stat in row.stats} - {name}
    stats = [*(stat for stat in _STAT_FORMATS if stat in measured), *sorted(measured - _STAT_FORMATS.keys())]
    shared = [stat for stat in stats if len(rows) > 1 and len({_format_stat(row, stat) for row in rows}) == 1]
    stats = [stat for stat in stats if stat not in shared]
    shared_text = "; ".join(f"{_stat_title(stat)} {_format_stat(rows[0], stat)}" for stat in shared)
    # 2. Build the tables.
    averaged = [dataset for dataset in datasets if dataset in ablation.mean_over]
    mean_text = join_names(averaged) if 0 < len(averaged) < len(datasets) else "all datasets"
    table = Table(
        id=f"{section_id}-rates",
        title="Word error rate by value, %",
        columns=make_columns(info.column_title, "Mean WER %", *shown_datasets, *map(_stat_title, stats), "Seeds"),
        rows=[
            make_row(
                row.value,
                format_rate(row.mean, row.low, row.high),
                *(format_number(_mean_over_seeds(row.wer.get(dataset, {}))) for dataset in shown_datasets),
                *(_format_stat(row, stat) for stat in stats),
                format_count(max(map(len, row.wer.values()), default=1)),
            )
            for row in rows
        ],
        caption=f"Only {ablation.setting} differs. The mean is over {mean_text}. In brackets 95 % intervals over "
        f"seeds and utterances.{f' All rows: {shared_text}.' if shared else ''}",
    )
    tables = [table.drop_empty_columns()]
    if any(len(wer_by_seed) > 1 for row in rows for wer_by_seed in row.wer.values()):
        tables.append(_build_seed_table(ablation, f"{section_id}-seeds", info.column_title))
    chart = _build_chart(ablation, f"{section_id}-chart", info)
    return Section(section_id, info.title, TOC_HEADING, _lead(ablation, info.name), tables, [chart])


def _stat_title(stat: str) -> str:
    return _STAT_FORMATS[stat][0] if stat in _STAT_FORMATS else stat


def _format_stat(row: AblationRow, stat: str) -> str:
    value = row.stats.get(stat)
    if value is None:
        return format_number(None)
    return _STAT_FORMATS[stat][1](value) if stat in _STAT_FORMATS else f"{value:g}"


def _format_parameters(value: float) -> str:
    return format_millions(round(value)) if value >= 1e5 else format_number(value)


def _mean_over_seeds(wer_by_seed: dict[str, float]) -> float | None:
    return sum(wer_by_seed.values()) / len(wer_by_seed) if wer_by_seed else None


def _build_seed_table(ablation: Ablation, table_id: str, column_title: str) -> Table:
    wers = [(row.value, dataset, wer_by_seed) for row in ablation.rows for dataset, wer_by_seed in row.wer.items()]
    seeds = list(dict.fromkeys(seed for _, _, wer_by_seed in wers for seed in wer_by_seed))
    rows = [make_row(value, dataset, *(format_number(wer.get(seed)) for seed in seeds)) for value, dataset, wer in wers]
    columns = make_columns(column_title, "Dataset", *(f"seed {seed}" for seed in seeds), text=2)
    return Table(table_id, "WER by seed, %", columns, rows, collapsed=True)


def _lead(ablation: Ablation, value_name: str) -> str:
    if len(ablation.rows) < 2:
        return ""
    best = min(ablation.rows, key=lambda row: row.mean)
    overlapping = [
        row.value for row in ablation.rows if row is not best and row.low <= best.high and best.low <= row.high
    ]
    overlap_text = f"Overlapping intervals: {', '.join(overlapping)}." if overlapping else "No other interval overlaps."
    if len(overlapping) == len(ablation.rows) - 1:
        overlap_text = "All intervals overlap."
    lowest_wer = format_rate(best.mean, best.low, best.high)
    return f"Lowest WER: {lowest_wer} % with {value_name} = {best.value}. {overlap_text}"


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _build_chart(ablation: Ablation, chart_id: str, info: _AblationInfo) -> Chart:
    """A curve if most values are numbers, else a row of the chart per value."""
    rows = ablation.rows
    numbers = [_parse_number(row.value) for row in rows]
    if len(rows) < 2 or sum(number is not None for number in numbers) <= len(rows) / 2:
        dots = [Point(row.mean, index, row.low, row.high) for index, row in enumerate(rows)]
        series, values = [Series("mean WER", dots, 1)], [row.value for row in rows]
        return Chart(chart_id, info.title, "dots", "mean WER %, with 95 % intervals", "", series, values)
    log_x = info.log_scale and all(number is not None and number > 0 for number in numbers)
    x_values = [float(number or 0) if log_x else float(index) for index, number in enumerate(numbers)]
    points = [Point(x, row.mean, row.low, row.high) for x, row in zip(x_values, rows, strict=True)]
    return Chart(
        id=chart_id,
        title=info.title,
        kind="lines",
        x_label=info.axis_label,
        y_label="mean WER %",
        series=[Series("mean WER", sorted(points, key=lambda point: point.x), 1)],
        ticks=[(x, row.value) for x, row in zip(x_values, rows, strict=True)],
        log_x=log_x,
        y_from_zero=max(row.high for row in rows) > 2 * min(row.low for row in rows),
    )
