"""Ablations: error rates of students trained with different values of one setting.

WER threshold, data size, decoder layers and objective have the form of the paper's tables; any other setting is
shown in the same form.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Literal

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import Chart, Columns, Point, Section, Series, Table
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import Ablation, AblationRow

_TITLES = {
    "max_wer": ("WER threshold λ", "λ, WER %", "λ: largest WER of a pseudo-label that is kept, %"),
    "subset_hours": ("Data size", "Hours", "hours of training data"),
    "decoder_layers": ("Decoder layers", "Layers", "decoder layers of the student"),
    "layers": ("Copied layers", "Layers", "decoder layers copied from the teacher"),
    "chunk_length": ("Chunk length", "Seconds", "chunk length, s"),
    "temperature": ("Temperature", "T", "temperature of the KL loss"),
}
"""Ablation -> section title, column title and axis label; others have their name as title."""
_LOG_SCALE_ABLATION = "subset_hours"


def _format_parameters(value: float) -> str:
    return fmt.millions(round(value)) if value >= 1e5 else fmt.number(value)


_STATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "percent_dropped": ("Dropped, %", fmt.number),
    "hours_kept": ("Hours kept", fmt.number),
    "hours": ("Hours", fmt.number),
    "windows": ("Windows", fmt.count),
    "steps": ("Steps", fmt.count),
    "parameters": ("Parameters, M", _format_parameters),
    "parameters_decoder": ("Decoder parameters, M", _format_parameters),
    "relative_speed": ("Relative speed", fmt.ratio),
    "relative_decoder_speed": ("Relative decoder speed", fmt.ratio),
    "validation_wer": ("Validation WER %", fmt.number),
}
"""Statistic -> column title and formatter; other statistics have their own name as title."""


def build_ablation_sections(view: ResultsView) -> list[Section]:
    """One section per ablation."""
    ablations = enumerate(view.eval_results.ablations)
    return [_build_section(ablation, index) for index, ablation in ablations if ablation.rows]


def _build_section(ablation: Ablation, index: int) -> Section:
    name, rows = ablation.name, ablation.rows
    title = name.replace("_", " ").capitalize()
    title, column_title, axis_label = _TITLES.get(name, (title, title, name))
    section_id = f"ablation-{index}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
    datasets = list(dict.fromkeys(dataset for row in rows for dataset in row.wer))
    # 1. Statistics that are the same in all rows go to the caption, the others to columns.
    measured = {stat for row in rows for stat in row.stats} - {name}
    stats = [*(stat for stat in _STATS if stat in measured), *sorted(measured - _STATS.keys())]
    stat_columns = [(_STATS.get(stat, (stat,))[0], partial(_stat_cell, stat)) for stat in stats]
    shared = {title: cell(rows[0]) for title, cell in stat_columns if len(rows) > 1 == len(set(map(cell, rows)))}
    shared_text = "; ".join(f"{stat_title} {value}" for stat_title, value in shared.items())
    # 2. Build the tables.
    columns: Columns[AblationRow] = [
        (column_title, lambda row: row.value),
        ("Mean WER %", lambda row: fmt.rate(row.mean, row.low, row.high)),
        *((dataset, partial(_mean_over_seeds, dataset)) for dataset in datasets if len(datasets) > 1),
        *((stat_title, cell) for stat_title, cell in stat_columns if stat_title not in shared),
        ("Seeds", lambda row: fmt.count(max(map(len, row.wer.values()), default=1))),
    ]
    averaged = [dataset for dataset in datasets if dataset in ablation.mean_over]
    mean_text = fmt.join(averaged) if 0 < len(averaged) < len(datasets) else "all datasets"
    caption = (
        f"Only {ablation.setting} differs. The mean is over {mean_text}. In brackets 95 % intervals over seeds and "
        f"utterances.{f' All rows: {shared_text}.' if shared else ''}"
    )
    table = Table.build(f"{section_id}-rates", "Word error rate by value, %", columns, {"": rows}, caption)
    tables = [table, _build_seed_table(ablation, f"{section_id}-seeds", column_title)]
    charts = [_build_chart(ablation, f"{section_id}-chart", title, axis_label)]
    return Section(section_id, title, "Ablations", _lead(ablation, column_title), tables, charts)


def _stat_cell(stat: str, row: AblationRow) -> str:
    format_stat = _STATS[stat][1] if stat in _STATS else "{:g}".format
    return format_stat(row.stats[stat]) if stat in row.stats else fmt.number(None)


def _mean_over_seeds(dataset: str, row: AblationRow) -> str:
    wers = row.wer.get(dataset, {}).values()
    return fmt.number(sum(wers) / len(wers) if wers else None)


def _build_seed_table(ablation: Ablation, table_id: str, column_title: str) -> Table:
    """WER by seed; without rows if all values have one seed."""
    wers = [(row.value, dataset, by_seed) for row in ablation.rows for dataset, by_seed in row.wer.items()]
    seeds = dict.fromkeys(seed for _, _, by_seed in wers for seed in by_seed)

    def seed_cell(seed: str, row: tuple[str, str, dict[str, float]]) -> str:
        return fmt.number(row[2].get(seed))

    columns: Columns[tuple[str, str, dict[str, float]]] = [
        (column_title, lambda row: row[0]),
        ("Dataset", lambda row: row[1]),
        *((f"seed {seed}", partial(seed_cell, seed)) for seed in seeds),
    ]
    has_several = any(len(by_seed) > 1 for _, _, by_seed in wers)
    groups = {"": wers if has_several else []}
    return Table.build(table_id, "WER by seed, %", columns, groups, text_columns=2, collapsed=True)


def _lead(ablation: Ablation, column_title: str) -> str:
    if len(ablation.rows) < 2:
        return ""
    best = min(ablation.rows, key=lambda row: row.mean)
    others = [row for row in ablation.rows if row is not best]
    overlapping = [row.value for row in others if row.low <= best.high and best.low <= row.high]
    overlap_text = f"Overlapping intervals: {', '.join(overlapping)}." if overlapping else "No other interval overlaps."
    if len(overlapping) == len(others):
        overlap_text = "All intervals overlap."
    return f"Lowest WER: {column_title.removesuffix(', WER %')} = {best.value}. {overlap_text}"


def _build_chart(ablation: Ablation, chart_id: str, title: str, axis_label: str) -> Chart:
    """A curve if most values are numbers, else a row of the chart per value."""
    rows = ablation.rows
    numbers = [row.value for row in rows if re.fullmatch(r"-?\d*\.?\d+(e-?\d+)?", row.value)]
    is_curve = len(rows) > 1 and len(numbers) > len(rows) / 2
    log_x = is_curve and ablation.name == _LOG_SCALE_ABLATION and len(numbers) == len(rows)
    x = [float(row.value) if log_x else index for index, row in enumerate(rows)]
    points = [Point(position, row.mean, row.low, row.high) for position, row in zip(x, rows, strict=True)]
    kind: Literal["lines", "dots"] = "lines" if is_curve else "dots"
    series = [Series("mean WER", sorted(points, key=lambda point: point.x), 1)]
    ticks = dict(zip(x, (row.value for row in rows), strict=True))
    from_zero = max(row.high for row in rows) > 2 * min(row.low for row in rows)
    labels = axis_label if is_curve else "", "mean WER %, with 95 % intervals"
    return Chart(chart_id, title, kind, *labels, series, ticks, log_x, y_from_zero=from_zero)
