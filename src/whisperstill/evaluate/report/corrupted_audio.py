"""Error rates on corrupted audio: added noise by signal-to-noise ratio, and other channels."""

from collections.abc import Sequence

from whisperstill.audio.conditions import CONDITION_KINDS
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Chart, Section, Table, make_columns, make_row
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
    datasets = view.measured_datasets(results)
    tables, charts, leads = [], [], []
    for index, dataset in enumerate(datasets):
        dataset_results = [result for result in results if result.dataset == dataset.name]
        names = view.measured_models(dataset_results)
        rows = []
        if clean_results := _clean_results(view, dataset.name, names, dataset_results[0].utterances):
            rows.append(make_row("none", NOT_MEASURED, *map(format_wer, clean_results)))
        wers_by_kind: dict[str, dict[tuple[str, float], DatasetResult]] = {}
        for result in dataset_results:
            noise_kind, snr_db = parse_noise_condition(result) or ("", 0.0)
            wers_by_kind.setdefault(noise_kind, {})[result.model, snr_db] = result
        for kind_index, (noise_kind, wers) in enumerate(wers_by_kind.items()):
            snr_levels = sorted({level for _, level in wers}, reverse=True)
            for snr_db in snr_levels:
                cells = (format_wer(wers.get((name, snr_db))) for name in names)
                rows.append(make_row(noise_kind, _format_snr(snr_db), *cells))
            positive_wers = {key: result for key, result in wers.items() if result.wer > 0}
            charts.append(
                Chart(
                    id=f"noise-{index}-{kind_index}",
                    title=f"{noise_kind}, {dataset.name}",
                    kind="lines",
                    x_label="signal-to-noise ratio, dB",
                    y_label="WER %, logarithmic",
                    series=view.build_wer_series(names, snr_levels, positive_wers),
                    log_y=True,
                    x_descending=True,
                )
            )
            leads.append(_noise_lead(view, noise_kind, wers, snr_levels))
        tables.append(
            Table(
                id=f"noise-{index}",
                title=f"Word error rate in noise, {dataset.name}, %",
                columns=make_columns("Noise", "SNR, dB", *map(view.display_name, names)),
                rows=rows,
                caption="SNR: signal-to-noise ratio; at 0 dB noise and speech have equal power.",
                collapsed=len(rows) > 12,
            )
        )
    lead = " ".join(filter(None, leads)) if len(datasets) == 1 else ""
    return Section("noise", "Noise", TOC_HEADING, lead, tables, charts)


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
    results = [clean_by_model.get(name) or view.short_form.get((name, dataset_name)) for name in model_names]
    matching_results = [result for result in results if result and result.utterances == num_utterances]
    return matching_results if len(matching_results) == len(model_names) else []


def _noise_lead(
    view: ResultsView, noise_kind: str, results_by_snr: dict[tuple[str, float], DatasetResult], snr_levels: list[float]
) -> str:
    """WER of the main model over the teacher's at the highest and the lowest SNR."""
    if view.teacher is None or view.main_model is None or len(snr_levels) < 2:
        return ""
    ratio_texts = []
    for snr_db in (snr_levels[0], snr_levels[-1]):
        result = results_by_snr.get((view.main_model.name, snr_db))
        teacher_result = results_by_snr.get((view.teacher.name, snr_db))
        if not result or not teacher_result or not teacher_result.wer:
            return ""
        ratio_texts.append(f"{format_ratio(result.wer / teacher_result.wer)} at {_format_snr(snr_db)} dB")
    name, teacher_name = view.display_name(view.main_model.name), view.display_name(view.teacher.name)
    return f"WER of {name} over {teacher_name} in {noise_kind} noise: {join_names(ratio_texts)}."


def build_channels_section(view: ResultsView) -> Section | None:
    """Error rates on audio that was corrupted by other means than noise."""
    results = [result for result in _corrupted_results(view) if not parse_noise_condition(result)]
    if not results:
        return None
    names, datasets = view.measured_models(results), view.measured_datasets(results)
    rows = []
    main_wers: list[tuple[float, str]] = []
    for dataset in datasets:
        wers = {(result.condition, result.model): result for result in results if result.dataset == dataset.name}
        conditions = dict.fromkeys(condition for condition, _ in wers)
        if len(datasets) > 1:
            rows.append(make_row(view.dataset_display_name(dataset), kind="group"))
        if clean_results := _clean_results(view, dataset.name, names, next(iter(wers.values())).utterances):
            rows.append(make_row(describe_condition(CLEAN_CONDITION), *map(format_wer, clean_results)))
        for condition in conditions:
            cells = (format_wer(wers.get((condition, name))) for name in names)
            rows.append(make_row(describe_condition(condition), *cells))
            main_result = view.main_model and wers.get((condition, view.main_model.name))
            if main_result:
                dataset_text = f" on {dataset.name}" if len(datasets) > 1 else ""
                main_wers.append((main_result.wer, describe_condition(condition) + dataset_text))
    table = Table(
        id="channel-rates",
        title="Word error rate by condition, %",
        columns=make_columns("Condition", *map(view.display_name, names)),
        rows=rows,
        caption="The same utterances after each corruption.",
    )
    lead = ""
    if view.main_model and main_wers:
        wer, description = max(main_wers, key=lambda main_wer: main_wer[0])
        lead = f"Highest WER of {view.display_name(view.main_model.name)}: {description} ({format_number(wer)} %)."
    return Section("channels", "Channels", TOC_HEADING, lead, [table])
