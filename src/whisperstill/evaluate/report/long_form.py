"""Long recordings: word error rate and speed by long-form strategy, and by chunk length."""

from whisperstill.evaluate.intervals import BOOTSTRAP_BLOCK_WORDS
from whisperstill.evaluate.report.accuracy import MEAN_NOTE, TOC_HEADING
from whisperstill.evaluate.report.blocks import (
    Chart,
    Point,
    Row,
    Section,
    Table,
    TableCell,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.formatting import format_number, format_ratio, format_wer, join_names
from whisperstill.evaluate.report.view import ResultsView, format_mean_wer, mean_wer
from whisperstill.records.eval_results import DatasetInfo, DatasetResult


def build_long_form_section(view: ResultsView) -> Section | None:
    """Full recordings by strategy (sequential against chunked in the paper)."""
    if not view.long_form:
        return None
    datasets = view.long_form_datasets
    speed_reference = _speed_reference(view)
    rows: list[Row] = []
    models_by_best_strategy: dict[str, list[str]] = {}
    for model in view.models:
        results_by_strategy = view.results_by_strategy(model.name)
        if results_by_strategy:
            rows.append(make_row(view.display_name(model.name), kind="group"))
        for strategy, results in results_by_strategy.items():
            results_by_dataset = {result.dataset: result for result in results}
            ordered_results = (results_by_dataset.get(dataset.name) for dataset in datasets)
            real_time_factor = _real_time_factor(results)
            rows.append(
                make_row(
                    strategy,
                    *(format_wer(result) for result in ordered_results),
                    *((format_mean_wer(results, len(datasets)),) if len(datasets) > 1 else ()),
                    format_number(1 / real_time_factor if real_time_factor else None),
                    format_ratio(
                        speed_reference[1] / real_time_factor if speed_reference and real_time_factor else None
                    ),
                )
            )
        best_strategy = view.best_strategy(model.name)
        if best_strategy and len(results_by_strategy) > 1:
            models_by_best_strategy.setdefault(best_strategy[0], []).append(view.display_name(model.name))
    dataset_titles = [
        *(view.dataset_display_name(dataset) for dataset in datasets),
        *(["Mean"] if len(datasets) > 1 else []),
    ]
    relative_speed_text = (
        f"Relative speed: against {view.display_name(speed_reference[0].model)}, {speed_reference[0].decoding}. "
        if speed_reference
        else ""
    )
    table = Table(
        id="long-form-strategies",
        title="Word error rate by strategy, %",
        columns=make_columns("Strategy", numeric_titles=(*dataset_titles, "× real time", "Relative speed")),
        rows=tuple(rows),
        caption=f"Full recordings; bootstrap intervals over blocks of about {BOOTSTRAP_BLOCK_WORDS} words. "
        f"{_describe_other_engines(view)}{relative_speed_text}{MEAN_NOTE if len(datasets) > 1 else ''}".strip(),
    )
    best_texts = [f"{name} ({join_names(model_names)})" for name, model_names in models_by_best_strategy.items()]
    lead = f"Lowest WER: {'; '.join(best_texts)}." if best_texts else ""
    return Section("long-form", "Long form", TOC_HEADING, lead=lead, tables=(table.drop_empty_columns(),))


def _describe_other_engines(view: ResultsView) -> str:
    """Decoding settings that differ between engines."""
    has_other_engine = any(view.engine(model_name) != "whisperstill" for model_name, *_ in view.long_form)
    return (
        "whisperstill decodes with its defaults: temperature fallback and hallucination filter. Other engines decode "
        "greedily, not conditioned on previous text. "
        if has_other_engine
        else ""
    )


def _real_time_factor(results: list[DatasetResult]) -> float:
    hours = sum(result.hours for result in results)
    return sum(result.seconds for result in results) / (3600 * hours) if hours else 0.0


def _speed_reference(view: ResultsView) -> tuple[DatasetResult, float] | None:
    """Reference of relative speed: the teacher's sequential decoding, else its first strategy."""
    results_by_strategy = view.results_by_strategy(view.teacher.name) if view.teacher else {}
    results = results_by_strategy.get("sequential") or next(iter(results_by_strategy.values()), None)
    return (results[0], _real_time_factor(results)) if results and _real_time_factor(results) else None


def build_chunk_length_section(view: ResultsView) -> Section | None:
    """Word error rate by chunk length (paper, table 17)."""
    results = view.select_results("chunk_length", clean_only=True)
    if not results:
        return None
    model_names = view.measured_models(results)
    datasets = [dataset for dataset in view.datasets if any(result.dataset == dataset.name for result in results)]
    lengths = sorted({result.chunk_length for result in results}, reverse=True)
    results_by_key = {(result.dataset, result.chunk_length, result.model): result for result in results}
    rows: list[Row] = []
    for dataset in datasets:
        if len(datasets) > 1:
            rows.append(make_row(view.dataset_display_name(dataset), kind="group"))
        for length in lengths:
            dataset_results = [results_by_key.get((dataset.name, length, model_name)) for model_name in model_names]
            wers = map(format_wer, dataset_results)
            rows.append(make_row(TableCell(f"{length:g}"), *wers))
    table = Table(
        id="chunk-length-rates",
        title="Word error rate by chunk length, %",
        columns=make_columns(numeric_titles=("Seconds", *map(view.display_name, model_names))),
        rows=tuple(rows),
        caption="Chunked long-form transcription: overlapping chunks, merged by matching words.",
    )
    charts = [
        _build_chunk_chart(view, dataset, index, results_by_key, lengths, model_names)
        for index, dataset in enumerate(datasets)
        if len(lengths) > 1
    ]
    best_texts = []
    for model_name in model_names:
        means = {
            length: mean_wer(
                [result for result in results if result.model == model_name and result.chunk_length == length]
            )
            for length in lengths
        }
        mean_wers = {length: mean_rate.value for length, mean_rate in means.items() if mean_rate}
        if len(mean_wers) > 1:
            length = min(mean_wers, key=lambda candidate: mean_wers[candidate])
            best_texts.append(f"{view.display_name(model_name)} at {length:g} s ({format_number(mean_wers[length])} %)")
    lead = f"Lowest WER: {join_names(best_texts)}." if best_texts else ""
    return Section("chunk-length", "Chunk length", TOC_HEADING, lead, tables=(table,), charts=tuple(charts))


def _build_chunk_chart(
    view: ResultsView,
    dataset: DatasetInfo,
    index: int,
    results_by_key: dict[tuple[str, float, str], DatasetResult],
    lengths: list[float],
    model_names: list[str],
) -> Chart:
    points_by_model = {
        model_name: [
            Point(length, result.wer, result.wer_low, result.wer_high)
            for length in sorted(lengths)
            if (result := results_by_key.get((dataset.name, length, model_name)))
        ]
        for model_name in model_names
    }
    return Chart(
        id=f"chunk-length-{index}",
        title=f"Chunk length, {dataset.name}",
        kind="lines",
        x_label="chunk length, s",
        y_label="WER %",
        series=view.build_series(points_by_model),
        ticks=tuple((length, f"{length:g}") for length in sorted(lengths)),
    )
