"""Long recordings: word error rate and speed by long-form strategy, and by chunk length."""

from collections.abc import Sequence
from functools import partial

from whisperstill.evaluate.intervals import BOOTSTRAP_BLOCK_WORDS
from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.accuracy import MEAN_NOTE, TOC_HEADING, group_by, wer_columns, wer_rows
from whisperstill.evaluate.report.blocks import Cell, Chart, Columns, Section, Table
from whisperstill.evaluate.report.comparison import format_mean_wer
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

_Strategy = tuple[str, Sequence[DatasetResult]]


def build_long_form_section(view: ResultsView) -> Section:
    """Full recordings by strategy (sequential against chunked in the paper)."""
    names = [dataset.name for dataset in view.long_form_datasets]
    by_strategy = {model.name: view.results_by_strategy(model.name) for model in view.models}
    # Reference of relative speed: the teacher's sequential decoding, else its first strategy
    teacher_results = by_strategy[view.teacher.name] if view.teacher else {}
    reference = teacher_results.get("sequential") or next(iter(teacher_results.values()), [])
    reference_speed = _speed(reference)

    def relative_speed(results: Sequence[DatasetResult]) -> float | None:
        speed = _speed(results)
        return speed / reference_speed if reference_speed and speed else None

    def wer_cell(name: str, row: _Strategy) -> Cell:
        return fmt.wer(next((result for result in row[1] if result.dataset == name), None))

    columns: Columns[_Strategy] = [
        ("Strategy", lambda row: row[0]),
        *((view.dataset_title(name), partial(wer_cell, name)) for name in names),
        ("Mean", lambda row: format_mean_wer(row[1], len(names)) if len(names) > 1 else ""),
        ("× real time", lambda row: fmt.number(_speed(row[1]))),
        ("Relative speed", lambda row: fmt.ratio(relative_speed(row[1]))),
    ]
    notes = [f"Full recordings; bootstrap intervals over blocks of about {BOOTSTRAP_BLOCK_WORDS} words."]
    if any(model.engine != "whisperstill" for model in view.models if by_strategy[model.name]):
        notes.append(
            "whisperstill decodes with its defaults: temperature fallback and hallucination filter. Other engines "
            "decode greedily, not conditioned on previous text."
        )
    if reference_speed:
        notes.append(f"Relative speed: against {view.display_name(reference[0].model)}, {reference[0].decoding}.")
    notes += [MEAN_NOTE] if len(names) > 1 else []
    groups = {view.display_name(name): strategies.items() for name, strategies in by_strategy.items()}
    title = "Word error rate by strategy, %"
    table = Table.build("long-form-strategies", title, columns, groups, " ".join(notes))
    return Section("long-form", "Long form", TOC_HEADING, tables=[table])


def _speed(results: Sequence[DatasetResult]) -> float | None:
    """Seconds of audio per second of computing."""
    seconds = sum(result.seconds for result in results)
    return 3600 * sum(result.hours for result in results) / seconds if seconds else None


def build_chunk_length_section(view: ResultsView) -> Section:
    """Word error rate by chunk length (paper, table 17)."""
    results = sorted(view.select_results("chunk_length"), key=lambda result: -result.chunk_length)
    ticks = {result.chunk_length: f"{result.chunk_length:g}" for result in results}
    groups: dict[str, list[DatasetResult]] = {}
    charts = []
    for index, dataset in enumerate(view.measured_datasets(results)):
        members = [result for result in results if result.dataset == dataset.name]
        groups[view.dataset_title(dataset.name)] = members
        chart_id, title = f"chunk-length-{index}", f"Chunk length, {dataset.name}"
        series = view.wer_series(reversed(members), lambda result: result.chunk_length)
        charts.append(Chart(chart_id, title, "lines", "chunk length, s", "WER %", series, ticks))
    if len(groups) > 1:
        groups["Mean"] = results
    rows = {
        name: wer_rows(group_by(members, lambda result: f"{result.chunk_length:g}")) for name, members in groups.items()
    }
    columns = wer_columns(view, "Seconds", results)
    title = "Word error rate by chunk length, %"
    caption = "Chunked long-form transcription: overlapping chunks, merged by matching words."
    table = Table.build("chunk-length-rates", title, columns, rows, caption, 0)
    return Section("chunk-length", "Chunk length", TOC_HEADING, "", [table], charts if len(ticks) > 1 else [])
