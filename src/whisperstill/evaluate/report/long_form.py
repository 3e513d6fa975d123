"""Long recordings: word error rate and speed by long-form strategy, and by chunk length."""

from whisperstill.evaluate.intervals import BOOTSTRAP_BLOCK_WORDS
from whisperstill.evaluate.report.accuracy import MEAN_NOTE, TOC_HEADING
from whisperstill.evaluate.report.blocks import Chart, Section, Table, make_columns, make_row
from whisperstill.evaluate.report.formatting import format_number, format_ratio, format_wer, join_names
from whisperstill.evaluate.report.view import ResultsView, format_mean_wer, mean_wer
from whisperstill.records.eval_results import DatasetResult


def build_long_form_section(view: ResultsView) -> Section | None:
    """Full recordings by strategy (sequential against chunked in the paper)."""
    if not view.long_form:
        return None
    datasets = view.long_form_datasets
    speed_reference = _speed_reference(view)
    rows = []
    models_by_best_strategy: dict[str, list[str]] = {}
    for model in view.models:
        results_by_strategy = view.results_by_strategy(model.name)
        if results_by_strategy:
            rows.append(make_row(view.display_name(model.name), kind="group"))
        for strategy, results in results_by_strategy.items():
            wers = [format_wer(view.long_form.get((model.name, strategy, dataset.name))) for dataset in datasets]
            if len(datasets) > 1:
                wers.append(format_mean_wer(results, len(datasets)))
            rtf = _real_time_factor(results)
            relative_speed = _real_time_factor(speed_reference) / rtf if speed_reference and rtf else None
            rows.append(
                make_row(strategy, *wers, format_number(1 / rtf if rtf else None), format_ratio(relative_speed))
            )
        best_strategy = view.best_strategy(model.name)
        if best_strategy and len(results_by_strategy) > 1:
            models_by_best_strategy.setdefault(best_strategy[0], []).append(view.display_name(model.name))
    titles = [*map(view.dataset_display_name, datasets), *(["Mean"] if len(datasets) > 1 else [])]
    notes = [f"Full recordings; bootstrap intervals over blocks of about {BOOTSTRAP_BLOCK_WORDS} words."]
    if any(model.engine != "whisperstill" for model in view.models if view.results_by_strategy(model.name)):
        notes.append(
            "whisperstill decodes with its defaults: temperature fallback and hallucination filter. Other engines "
            "decode greedily, not conditioned on previous text."
        )
    if speed_reference:
        reference = speed_reference[0]
        notes.append(f"Relative speed: against {view.display_name(reference.model)}, {reference.decoding}.")
    if len(datasets) > 1:
        notes.append(MEAN_NOTE)
    table = Table(
        id="long-form-strategies",
        title="Word error rate by strategy, %",
        columns=make_columns("Strategy", *titles, "× real time", "Relative speed"),
        rows=rows,
        caption=" ".join(notes),
    )
    best_texts = [f"{strategy} ({join_names(names)})" for strategy, names in models_by_best_strategy.items()]
    lead = f"Lowest WER: {'; '.join(best_texts)}." if best_texts else ""
    return Section("long-form", "Long form", TOC_HEADING, lead, [table.drop_empty_columns()])


def _real_time_factor(results: list[DatasetResult]) -> float:
    hours = sum(result.hours for result in results)
    return sum(result.seconds for result in results) / (3600 * hours) if hours else 0.0


def _speed_reference(view: ResultsView) -> list[DatasetResult]:
    """Reference of relative speed: the teacher's sequential decoding, else its first strategy; empty if not timed."""
    results_by_strategy = view.results_by_strategy(view.teacher.name) if view.teacher else {}
    results = results_by_strategy.get("sequential") or next(iter(results_by_strategy.values()), [])
    return results if _real_time_factor(results) else []


def build_chunk_length_section(view: ResultsView) -> Section | None:
    """Word error rate by chunk length (paper, table 17)."""
    results = view.select_results("chunk_length", clean_only=True)
    if not results:
        return None
    names = view.measured_models(results)
    datasets = view.measured_datasets(results)
    lengths = sorted({result.chunk_length for result in results})
    rows, charts = [], []
    for index, dataset in enumerate(datasets):
        if len(datasets) > 1:
            rows.append(make_row(view.dataset_display_name(dataset), kind="group"))
        wers = {(result.model, result.chunk_length): result for result in results if result.dataset == dataset.name}
        for length in reversed(lengths):
            rows.append(make_row(f"{length:g}", *(format_wer(wers.get((name, length))) for name in names)))
        charts.append(
            Chart(
                id=f"chunk-length-{index}",
                title=f"Chunk length, {dataset.name}",
                kind="lines",
                x_label="chunk length, s",
                y_label="WER %",
                series=view.build_wer_series(names, lengths, wers),
                ticks=[(length, f"{length:g}") for length in lengths],
            )
        )
    table = Table(
        id="chunk-length-rates",
        title="Word error rate by chunk length, %",
        columns=make_columns("Seconds", *map(view.display_name, names), text=0),
        rows=rows,
        caption="Chunked long-form transcription: overlapping chunks, merged by matching words.",
    )
    best_texts = []
    for name in names:
        means = []
        for length in reversed(lengths):
            mean = mean_wer([result for result in results if (result.model, result.chunk_length) == (name, length)])
            means += [(mean.value, length)] if mean else []
        if len(means) > 1:
            wer, length = min(means, key=lambda mean: mean[0])
            best_texts.append(f"{view.display_name(name)} at {length:g} s ({format_number(wer)} %)")
    lead = f"Lowest WER: {join_names(best_texts)}." if best_texts else ""
    charts = charts if len(lengths) > 1 else []
    return Section("chunk-length", "Chunk length", TOC_HEADING, lead, [table], charts)
