"""Ablations: error rates of students trained with different values of one setting.

WER threshold, data size, decoder layers and objective have the form of the paper's tables; any other setting is
shown in the same form.
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
    TableCell,
    make_columns,
    make_row,
)
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

_STAT_FORMATS = {
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
    info = _ABLATION_INFO.get(ablation.name)
    title = info.title if info else ablation.name.replace("_", " ").capitalize()
    section_id = f"ablation-{index}-{re.sub(r'[^a-z0-9]+', '-', ablation.name.lower())}"
    dataset_names = list(
        dict.fromkeys(dataset_name for ablation_row in ablation.rows for dataset_name in ablation_row.wer)
    )
    stat_names = [
        stat
        for stat in _STAT_FORMATS
        if stat != ablation.name and any(stat in ablation_row.stats for ablation_row in ablation.rows)
    ]
    stat_names += sorted(
        {stat for ablation_row in ablation.rows for stat in ablation_row.stats} - {*_STAT_FORMATS, ablation.name}
    )
    shared_stats = [
        stat
        for stat in stat_names
        if len(ablation.rows) > 1 and len({_format_stat(ablation_row, stat) for ablation_row in ablation.rows}) == 1
    ]
    stat_names = [stat for stat in stat_names if stat not in shared_stats]
    stat_titles = [_stat_title(stat) for stat in stat_names]
    shared_text = "; ".join(f"{_stat_title(stat)} {_format_stat(ablation.rows[0], stat)}" for stat in shared_stats)
    shared_text = f" All rows: {shared_text}." if shared_stats else ""
    has_several_datasets = len(dataset_names) > 1
    table = Table(
        id=f"{section_id}-rates",
        title="Word error rate by value, %",
        columns=make_columns(
            info.column_title if info else ablation.name,
            numeric_titles=("Mean WER %", *(dataset_names if has_several_datasets else ()), *stat_titles, "Seeds"),
        ),
        rows=tuple(
            _build_row(ablation_row, stat_names, dataset_names if has_several_datasets else [])
            for ablation_row in ablation.rows
        ),
        caption=f"Only {ablation.setting} differs. {_describe_mean(ablation, dataset_names)} "
        f"In brackets 95 % intervals over seeds and utterances.{shared_text}",
    )
    tables = [table.drop_empty_columns()]
    if any(len(seeds) > 1 for ablation_row in ablation.rows for seeds in ablation_row.wer.values()):
        tables.append(_build_seed_table(ablation, f"{section_id}-seeds", info.column_title if info else ablation.name))
    return Section(
        id=section_id,
        title=title,
        toc_heading=TOC_HEADING,
        lead=_lead(ablation, info.name if info else ablation.name),
        tables=tuple(tables),
        charts=(_build_chart(ablation, section_id, title, info),),
    )


def _build_row(ablation_row: AblationRow, stat_names: list[str], dataset_names: list[str]) -> Row:
    return make_row(
        ablation_row.value,
        format_rate(ablation_row.mean, ablation_row.low, ablation_row.high),
        *(format_number(_mean_over_seeds(ablation_row.wer.get(dataset_name, {}))) for dataset_name in dataset_names),
        *(TableCell(_format_stat(ablation_row, stat)) for stat in stat_names),
        format_count(max((len(seeds) for seeds in ablation_row.wer.values()), default=1)),
    )


def _stat_title(stat: str) -> str:
    return _STAT_FORMATS[stat][0] if stat in _STAT_FORMATS else stat


def _format_stat(ablation_row: AblationRow, stat: str) -> str:
    value = ablation_row.stats.get(stat)
    if value is None:
        return format_number(None)
    return str(_STAT_FORMATS[stat][1](value)) if stat in _STAT_FORMATS else f"{value:g}"


def _format_parameters(value: float) -> str:
    return format_millions(round(value)) if value >= 1e5 else format_number(value)


def _mean_over_seeds(wer_by_seed: dict[str, float]) -> float | None:
    return sum(wer_by_seed.values()) / len(wer_by_seed) if wer_by_seed else None


def _describe_mean(ablation: Ablation, dataset_names: list[str]) -> str:
    averaged_datasets = [dataset_name for dataset_name in dataset_names if dataset_name in ablation.mean_over]
    return (
        f"The mean is over {join_names(averaged_datasets)}."
        if 0 < len(averaged_datasets) < len(dataset_names)
        else "The mean is over all datasets."
    )


def _build_seed_table(ablation: Ablation, table_id: str, column_title: str) -> Table:
    seeds = list(
        dict.fromkeys(
            seed for ablation_row in ablation.rows for wer_by_seed in ablation_row.wer.values() for seed in wer_by_seed
        )
    )
    return Table(
        id=table_id,
        title="WER by seed, %",
        columns=make_columns(column_title, "Dataset", numeric_titles=tuple(f"seed {seed}" for seed in seeds)),
        rows=tuple(
            make_row(ablation_row.value, dataset_name, *(format_number(wer_by_seed.get(seed)) for seed in seeds))
            for ablation_row in ablation.rows
            for dataset_name, wer_by_seed in ablation_row.wer.items()
        ),
        collapsed=True,
    )


def _lead(ablation: Ablation, value_name: str) -> str:
    if len(ablation.rows) < 2:
        return ""
    best_row = min(ablation.rows, key=lambda ablation_row: ablation_row.mean)
    overlapping = [
        ablation_row.value
        for ablation_row in ablation.rows
        if ablation_row is not best_row and ablation_row.low <= best_row.high and best_row.low <= ablation_row.high
    ]
    lowest_wer = format_rate(best_row.mean, best_row.low, best_row.high)
    overlap_text = (
        f" Overlapping intervals: {', '.join(overlapping)}." if overlapping else " No other interval overlaps."
    )
    if len(overlapping) == len(ablation.rows) - 1:
        overlap_text = " All intervals overlap."
    return f"Lowest WER: {lowest_wer} % with {value_name} = {best_row.value}.{overlap_text}"


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _build_chart(ablation: Ablation, section_id: str, title: str, info: _AblationInfo | None) -> Chart:
    numbers = [_parse_number(ablation_row.value) for ablation_row in ablation.rows]
    axis_label = info.axis_label if info else ablation.name
    rows = ablation.rows
    if len(rows) > 1 and sum(number is not None for number in numbers) > len(rows) / 2:
        use_log_x = info is not None and info.log_scale and all(number is not None and number > 0 for number in numbers)
        x_values = [float(number or 0) if use_log_x else float(index) for index, number in enumerate(numbers)]
        points = sorted(
            (
                Point(x, ablation_row.mean, ablation_row.low, ablation_row.high)
                for x, ablation_row in zip(x_values, rows, strict=True)
            ),
            key=lambda point: point.x,
        )
        ticks = tuple((x, ablation_row.value) for x, ablation_row in zip(x_values, rows, strict=True))
        series = (Series("mean WER", tuple(points), 1),)
        return Chart(
            id=f"{section_id}-chart",
            title=title,
            kind="lines",
            x_label=axis_label,
            y_label="mean WER %",
            series=series,
            ticks=ticks,
            log_x=use_log_x,
            y_from_zero=max(ablation_row.high for ablation_row in rows)
            > 2 * min(ablation_row.low for ablation_row in rows),
        )
    dot_points = tuple(
        Point(ablation_row.mean, index, ablation_row.low, ablation_row.high) for index, ablation_row in enumerate(rows)
    )
    return Chart(
        id=f"{section_id}-chart",
        title=title,
        kind="dots",
        x_label="mean WER %, with 95 % intervals",
        y_label="",
        series=(Series("mean WER", dot_points, 1),),
        rows=tuple(ablation_row.value for ablation_row in rows),
    )
