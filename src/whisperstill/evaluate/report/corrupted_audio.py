"""Error rates on corrupted audio: added noise by signal-to-noise ratio, and other channels."""

from collections.abc import Sequence

from whisperstill.audio.conditions import CONDITION_KINDS
from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
    Row,
    Section,
    Table,
    TableCell,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.effective_robustness import TOC_HEADING
from whisperstill.evaluate.report.formatting import (
    CLEAN_CONDITION,
    MINUS_SIGN,
    describe_condition,
    format_number,
    format_ratio,
    format_wer,
    join_names,
)
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

_NOISE_KINDS = ("white", "pink", "babble")


def build_noise_section(view: ResultsView) -> Section | None:
    """Error rate by signal-to-noise ratio: a chart per noise type, a curve per model."""
    results = [result for result in _corrupted_results(view) if parse_noise_condition(result)]
    if not results:
        return None
    datasets = [dataset for dataset in view.datasets if any(result.dataset == dataset.name for result in results)]
    tables: list[Table] = []
    charts: list[Chart] = []
    leads: list[str] = []
    for index, dataset in enumerate(datasets):
        dataset_results = [result for result in results if result.dataset == dataset.name]
        model_names = view.measured_models(dataset_results)
        rows: list[Row] = []
        if clean_results := _clean_results(view, dataset.name, model_names, dataset_results[0].utterances):
            rows.append(make_row("none", NOT_MEASURED, *_format_wers(clean_results)))
        for kind_index, noise_kind in enumerate(dict.fromkeys(map(_noise_kind, dataset_results))):
            results_by_snr = {
                (result.model, _snr_db(result)): result
                for result in dataset_results
                if _noise_kind(result) == noise_kind
            }
            snr_levels = sorted({level for _, level in results_by_snr}, reverse=True)
            for snr_db in snr_levels:
                wers = _format_wers([results_by_snr.get((model_name, snr_db)) for model_name in model_names])
                rows.append(make_row(noise_kind, _format_snr(snr_db), *wers))
            chart_id, title = f"noise-{index}-{kind_index}", f"{noise_kind}, {dataset.name}"
            charts.append(_build_noise_chart(view, chart_id, title, results_by_snr, model_names))
            leads.append(_noise_lead(view, noise_kind, results_by_snr, snr_levels))
        tables.append(
            Table(
                id=f"noise-{index}",
                title=f"Word error rate in noise, {dataset.name}, %",
                columns=make_columns("Noise", numeric_titles=("SNR, dB", *map(view.display_name, model_names))),
                rows=tuple(rows),
                caption="SNR: signal-to-noise ratio; at 0 dB noise and speech have equal power.",
                collapsed=len(rows) > 12,
            )
        )
    lead = " ".join(filter(None, leads)) if len(datasets) == 1 else ""
    return Section("noise", "Noise", TOC_HEADING, lead, tables=tuple(tables), charts=tuple(charts))


def parse_noise_condition(result: DatasetResult) -> tuple[str, float] | None:
    """(noise type, signal-to-noise ratio in dB) of a condition such as `white@10`; None for other conditions."""
    kind, separator, level = result.condition.rpartition("@")
    if not separator or (kind in CONDITION_KINDS and kind not in _NOISE_KINDS):
        return None
    try:
        return kind, float(level)
    except ValueError:
        return None


def _format_snr(snr_db: float) -> str:
    return f"{snr_db:g}".replace("-", MINUS_SIGN)


def _corrupted_results(view: ResultsView) -> list[DatasetResult]:
    return [
        result
        for result in view.eval_results.results
        if result.condition not in ("", CLEAN_CONDITION) and result.measurement != "non_speech"
    ]


def _clean_results(
    view: ResultsView, dataset_name: str, model_names: Sequence[str], num_utterances: int
) -> list[DatasetResult]:
    """Results on the same utterances without corruption; empty if a model has none."""
    clean_by_model = {
        result.model: result
        for result in view.eval_results.results
        if result.dataset == dataset_name and result.condition == CLEAN_CONDITION
    }
    results = (
        clean_by_model.get(model_name) or view.short_form.get((model_name, dataset_name)) for model_name in model_names
    )
    matching_results = [result for result in results if result and result.utterances == num_utterances]
    return matching_results if len(matching_results) == len(model_names) else []


def _noise_kind(result: DatasetResult) -> str:
    return (parse_noise_condition(result) or ("", 0.0))[0]


def _snr_db(result: DatasetResult) -> float:
    return (parse_noise_condition(result) or ("", 0.0))[1]


def _format_wers(results: Sequence[DatasetResult | None]) -> list[TableCell]:
    return [format_wer(result) for result in results]


def _build_noise_chart(
    view: ResultsView,
    chart_id: str,
    title: str,
    results_by_snr: dict[tuple[str, float], DatasetResult],
    model_names: list[str],
) -> Chart:
    snr_levels = sorted({level for _, level in results_by_snr}, reverse=True)
    points_by_model = {
        model_name: [
            Point(snr_db, result.wer, result.wer_low, result.wer_high)
            for snr_db in snr_levels
            if (result := results_by_snr.get((model_name, snr_db))) and result.wer > 0
        ]
        for model_name in model_names
    }
    return Chart(
        id=chart_id,
        title=title,
        kind="lines",
        x_label="signal-to-noise ratio, dB",
        y_label="WER %, logarithmic",
        series=view.build_series(points_by_model),
        log_y=True,
        x_descending=True,
    )


def _noise_lead(
    view: ResultsView, noise_kind: str, results_by_snr: dict[tuple[str, float], DatasetResult], snr_levels: list[float]
) -> str:
    """WER of the main model over the teacher's at the highest and the lowest SNR."""
    if view.teacher is None or view.main_model is None or len(snr_levels) < 2:
        return ""
    ratio_texts = []
    for snr_db in (snr_levels[0], snr_levels[-1]):
        main_result = results_by_snr.get((view.main_model.name, snr_db))
        teacher_result = results_by_snr.get((view.teacher.name, snr_db))
        if not main_result or not teacher_result or not teacher_result.wer:
            return ""
        ratio_texts.append(f"{format_ratio(main_result.wer / teacher_result.wer)} at {_format_snr(snr_db)} dB")
    main_name, teacher_name = view.display_name(view.main_model.name), view.display_name(view.teacher.name)
    return f"WER of {main_name} over {teacher_name} in {noise_kind} noise: {join_names(ratio_texts)}."


def build_channels_section(view: ResultsView) -> Section | None:
    """Error rates on audio that was corrupted by other means than noise."""
    results = [result for result in _corrupted_results(view) if not parse_noise_condition(result)]
    if not results:
        return None
    model_names = view.measured_models(results)
    datasets = [dataset for dataset in view.datasets if any(result.dataset == dataset.name for result in results)]
    rows: list[Row] = []
    hardest: tuple[float, str] | None = None
    for dataset in datasets:
        dataset_results = [result for result in results if result.dataset == dataset.name]
        if len(datasets) > 1:
            rows.append(make_row(view.dataset_display_name(dataset), kind="group"))
        if clean_results := _clean_results(view, dataset.name, model_names, dataset_results[0].utterances):
            rows.append(make_row(describe_condition(CLEAN_CONDITION), *_format_wers(clean_results)))
        for condition in dict.fromkeys(result.condition for result in dataset_results):
            results_by_model = {result.model: result for result in dataset_results if result.condition == condition}
            wers = _format_wers([results_by_model.get(model_name) for model_name in model_names])
            rows.append(make_row(describe_condition(condition), *wers))
            main_result = view.main_model and results_by_model.get(view.main_model.name)
            if main_result and (hardest is None or main_result.wer > hardest[0]):
                dataset_text = f" on {dataset.name}" if len(datasets) > 1 else ""
                hardest = (main_result.wer, describe_condition(condition) + dataset_text)
    table = Table(
        id="channel-rates",
        title="Word error rate by condition, %",
        columns=make_columns("Condition", numeric_titles=tuple(map(view.display_name, model_names))),
        rows=tuple(rows),
        caption="The same utterances after each corruption.",
    )
    main_name = view.display_name(view.main_model.name) if view.main_model else ""
    lead = f"Highest WER of {main_name}: {hardest[1]} ({format_number(hardest[0])} %)." if hardest else ""
    return Section("channels", "Channels", TOC_HEADING, lead, tables=(table,))
