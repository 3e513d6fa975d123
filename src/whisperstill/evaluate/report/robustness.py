"""Whether what was learned holds elsewhere: effective robustness over datasets, noise of every kind, other channels."""

from collections.abc import Sequence
from dataclasses import dataclass

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
    Row,
    Section,
    Series,
    Table,
    TableCell,
    drop_empty_columns,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.numbers import (
    format_difference,
    format_number,
    format_p_value,
    format_rate,
    format_ratio,
    format_signed,
    join_names,
)
from whisperstill.evaluate.report.view import (
    CLEAN_CONDITION,
    ResultsView,
    describe_condition,
    mean_with_interval,
    parse_noise_condition,
)
from whisperstill.records.eval_results import DatasetResult, ModelInfo

TOC_HEADING = "Robustness"


def build_effective_robustness_section(view: ResultsView) -> Section | None:
    """How much more than the teacher a model misses, dataset by dataset, against the one it was trained for."""
    if view.teacher is None:
        return None
    teacher_name = view.display_name(view.teacher.name)
    rows: list[Row] = []
    leads, charts = [], []
    for model in view.compared_models:
        result_pairs = [
            (result, teacher_match)
            for result in view.short_form_results(model.name)
            if (teacher_match := view.teacher_result(result)) and teacher_match.wer
        ]
        if not result_pairs:
            continue
        rers = {result.dataset: _relative_error_rate(result, teacher_result) for result, teacher_result in result_pairs}
        in_distribution = [
            rers[dataset.name]
            for dataset in view.short_form_datasets
            if dataset.in_distribution and dataset.name in rers
        ]
        out_of_distribution = [
            rers[dataset.name]
            for dataset in view.short_form_datasets
            if not dataset.in_distribution and dataset.name in rers
        ]
        if len(view.compared_models) > 1:
            rows.append(make_row(view.display_name(model.name), kind="group"))
        rows += [
            _build_pair_row(result, teacher_result, rers[result.dataset]) for result, teacher_result in result_pairs
        ]
        if len(out_of_distribution) > 1:
            rows.append(
                make_row(
                    "Mean out of distribution", "", "", "", _mean_rer(out_of_distribution).formatted, "", kind="total"
                )
            )
        leads.append(_lead(view, model, in_distribution, out_of_distribution))
        charts.append(
            _build_chart(view, model, result_pairs, _mean_rer(in_distribution).estimate if in_distribution else None)
        )
    if not rows:
        return None
    table = Table(
        id="robustness-datasets",
        title="Difference to the teacher by dataset",
        columns=make_columns(
            "Dataset", numeric_titles=(f"{teacher_name}, WER %", "WER %", "Difference (95 %)", "RER % (95 %)", "p")
        ),
        rows=tuple(rows),
        caption="RER = (WER − WER of the teacher) / WER of the teacher: what is lost in proportion. Difference in "
        "points, by paired bootstrap on the same utterances; RER's interval is the difference's over the teacher's "
        "rate. Effectively robust is whose RER out of distribution is no larger than in distribution.",
    )
    return Section(
        id="robustness",
        title="Effective robustness",
        toc_heading=TOC_HEADING,
        lead=" ".join(filter(None, leads)),
        tables=(drop_empty_columns(table),),
        charts=tuple(charts),
    )


@dataclass(frozen=True, slots=True)
class _RelativeErrorRate:
    """A relative error rate, per cent, and the ends of its interval, where that is known."""

    estimate: float
    low: float | None = None
    high: float | None = None

    @property
    def formatted(self) -> TableCell:
        if self.low is None or self.high is None:
            return TableCell(format_signed(self.estimate, 0))
        return format_difference(self.estimate, self.low, self.high, digits=0)


def _relative_error_rate(result: DatasetResult, teacher_result: DatasetResult) -> _RelativeErrorRate:
    estimate, paired_difference = (
        100 * (result.wer - teacher_result.wer) / teacher_result.wer,
        result.difference_to_teacher,
    )
    return (
        _RelativeErrorRate(
            estimate,
            100 * paired_difference.low / teacher_result.wer,
            100 * paired_difference.high / teacher_result.wer,
        )
        if paired_difference
        else _RelativeErrorRate(estimate)
    )


def _mean_rer(rers: Sequence[_RelativeErrorRate]) -> _RelativeErrorRate:
    mean_estimate = mean_with_interval(
        (rer.estimate, rer.low, rer.high) for rer in rers if rer.low is not None and rer.high is not None
    )
    if mean_estimate is None or mean_estimate.num_datasets < len(rers):
        return _RelativeErrorRate(sum(rer.estimate for rer in rers) / len(rers))
    return _RelativeErrorRate(mean_estimate.value, mean_estimate.low, mean_estimate.high)


def _build_pair_row(result: DatasetResult, teacher_result: DatasetResult, rer: _RelativeErrorRate) -> Row:
    paired_difference = result.difference_to_teacher
    return make_row(
        result.dataset,
        format_number(teacher_result.wer),
        format_number(result.wer),
        format_difference(paired_difference.difference, paired_difference.low, paired_difference.high)
        if paired_difference
        else format_signed(result.wer - teacher_result.wer),
        rer.formatted,
        format_p_value(paired_difference.p_value) if paired_difference else NOT_MEASURED,
    )


def _lead(
    view: ResultsView,
    model: ModelInfo,
    in_distribution: list[_RelativeErrorRate],
    out_of_distribution: list[_RelativeErrorRate],
) -> str:
    """Whether more is lost out of distribution, where intervals that lie apart say so."""
    if not in_distribution or not out_of_distribution:
        return ""
    in_distribution_mean, out_of_distribution_mean = _mean_rer(in_distribution), _mean_rer(out_of_distribution)
    conclusion = "loses as much, as far as can be told, where the data are new"
    if out_of_distribution_mean.estimate <= in_distribution_mean.estimate:
        conclusion = "loses no more where the data are new"
    elif (
        out_of_distribution_mean.low is None
        or in_distribution_mean.high is None
        or out_of_distribution_mean.low > in_distribution_mean.high
    ):
        conclusion = "loses more where the data are new"
    rates_text = (
        f"RER {format_signed(out_of_distribution_mean.estimate, 0)} % out of distribution, "
        f"{format_signed(in_distribution_mean.estimate, 0)} % in distribution"
    )
    return f"{view.display_name(model.name)} {conclusion}: {rates_text}."


def _build_chart(
    view: ResultsView,
    model: ModelInfo,
    result_pairs: list[tuple[DatasetResult, DatasetResult]],
    in_distribution_rer: float | None,
) -> Chart:
    points = []
    for index, (result, teacher_result) in enumerate(result_pairs):
        rer = _relative_error_rate(result, teacher_result)
        points.append(Point(rer.estimate, index, rer.low, rer.high))
    return Chart(
        id=f"robustness-{view.model_indices[model.name]}",
        title=f"Effective robustness, {view.display_name(model.name)}",
        kind="dots",
        x_label="RER %, with 95 % intervals",
        y_label="",
        series=(Series(view.display_name(model.name), tuple(points), view.model_indices[model.name]),),
        rows=tuple(result.dataset for result, _ in result_pairs),
        reference_line=in_distribution_rer,
        reference_label="in distribution",
    )


def build_noise_section(view: ResultsView) -> Section | None:
    """Error rates over signal-to-noise ratio, one curve a model, one chart a kind of noise."""
    results = [result for result in _corrupted_results(view) if parse_noise_condition(result)]
    if not results:
        return None
    tables, charts, leads = [], [], []
    datasets = [dataset for dataset in view.datasets if any(result.dataset == dataset.name for result in results)]
    for index, dataset in enumerate(datasets):
        dataset_results = [result for result in results if result.dataset == dataset.name]
        model_names = [
            model.name for model in view.models if any(result.model == model.name for result in dataset_results)
        ]
        rows: list[Row] = []
        if clean_results := _clean_results(view, dataset.name, model_names, dataset_results[0].utterances):
            rows.append(make_row("none", NOT_MEASURED, *_format_wers(clean_results)))
        for kind_index, noise_kind in enumerate(dict.fromkeys(_noise_kind(result) for result in dataset_results)):
            results_by_snr = {
                (result.model, _snr_db(result)): result
                for result in dataset_results
                if _noise_kind(result) == noise_kind
            }
            snr_levels = sorted({level for _, level in results_by_snr}, reverse=True)
            for snr_db in snr_levels:
                snr_text = f"{snr_db:g}".replace("-", "−")
                rows.append(
                    make_row(
                        noise_kind,
                        snr_text,
                        *_format_wers([results_by_snr.get((model_name, snr_db)) for model_name in model_names]),
                    )
                )
            charts.append(
                _build_noise_chart(
                    view,
                    f"noise-{index}-{kind_index}",
                    f"{noise_kind}, {dataset.name}",
                    results_by_snr,
                    snr_levels,
                    model_names,
                )
            )
            leads.append(_noise_lead(view, noise_kind, results_by_snr, snr_levels))
        tables.append(
            Table(
                id=f"noise-{index}",
                title=f"Word error rate in noise, {dataset.name}, %",
                columns=make_columns("Noise", numeric_titles=("SNR, dB", *map(view.display_name, model_names))),
                rows=tuple(rows),
                caption="SNR: signal-to-noise ratio; at 0 dB the noise is as loud as the speech.",
                collapsed=len(rows) > 12,
            )
        )
    lead = " ".join(filter(None, leads)) if len(datasets) == 1 else ""
    return Section("noise", "Noise", TOC_HEADING, lead, tables=tuple(tables), charts=tuple(charts))


def _corrupted_results(view: ResultsView) -> list[DatasetResult]:
    return [
        result
        for result in view.eval_results.results
        if result.condition not in ("", CLEAN_CONDITION) and result.measurement != "non_speech"
    ]


def _clean_results(
    view: ResultsView, dataset_name: str, model_names: Sequence[str], num_utterances: int
) -> list[DatasetResult]:
    """Results of the same utterances as they were recorded; none, where a model lacks one."""
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
    noise_condition = parse_noise_condition(result)
    return noise_condition[0] if noise_condition else ""


def _snr_db(result: DatasetResult) -> float:
    noise_condition = parse_noise_condition(result)
    return noise_condition[1] if noise_condition else 0.0


def _format_wers(results: Sequence[DatasetResult | None]) -> list[TableCell]:
    return [format_rate(result.wer, result.wer_low, result.wer_high) if result else NOT_MEASURED for result in results]


def _build_noise_chart(
    view: ResultsView,
    chart_id: str,
    title: str,
    results_by_snr: dict[tuple[str, float], DatasetResult],
    snr_levels: list[float],
    model_names: list[str],
) -> Chart:
    series = []
    for model_name in model_names:
        results = ((snr_db, results_by_snr.get((model_name, snr_db))) for snr_db in snr_levels)
        points = (
            Point(snr_db, result.wer, result.wer_low, result.wer_high)
            for snr_db, result in results
            if result and result.wer > 0
        )
        series.append(Series(view.display_name(model_name), tuple(points), view.model_indices[model_name]))
    return Chart(
        id=chart_id,
        title=title,
        kind="lines",
        x_label="signal-to-noise ratio, dB",
        y_label="WER %, logarithmic",
        series=tuple(series),
        log_y=True,
        x_descending=True,
    )


def _noise_lead(
    view: ResultsView, noise_kind: str, results_by_snr: dict[tuple[str, float], DatasetResult], snr_levels: list[float]
) -> str:
    """The main model's rate over the teacher's at both ends."""
    if view.teacher is None or view.main_model is None or len(snr_levels) < 2:
        return ""
    ratio_texts = []
    for snr_db in (snr_levels[0], snr_levels[-1]):
        main_result, teacher_result = (
            results_by_snr.get((view.main_model.name, snr_db)),
            results_by_snr.get((view.teacher.name, snr_db)),
        )
        if not main_result or not teacher_result or not teacher_result.wer:
            return ""
        snr_text = f"{snr_db:g}".replace("-", "−")
        ratio_texts.append(f"{format_ratio(main_result.wer / teacher_result.wer)} at {snr_text} dB")
    main_name, teacher_name = view.display_name(view.main_model.name), view.display_name(view.teacher.name)
    return f"In noise ({noise_kind}) {main_name} makes the errors of {teacher_name} {join_names(ratio_texts)}."


def build_channels_section(view: ResultsView) -> Section | None:
    """Error rates of sound that was spoiled in other ways than by noise."""
    results = [result for result in _corrupted_results(view) if not parse_noise_condition(result)]
    if not results:
        return None
    model_names = [model.name for model in view.models if any(result.model == model.name for result in results)]
    datasets = [dataset for dataset in view.datasets if any(result.dataset == dataset.name for result in results)]
    rows: list[Row] = []
    hardest: tuple[float, str] | None = None
    for dataset in datasets:
        dataset_results = [result for result in results if result.dataset == dataset.name]
        if len(datasets) > 1:
            rows.append(make_row(view.dataset_display_name(dataset), kind="group"))
        if clean_results := _clean_results(view, dataset.name, model_names, dataset_results[0].utterances):
            rows.append(make_row("as recorded", *_format_wers(clean_results)))
        for condition in dict.fromkeys(result.condition for result in dataset_results):
            results_by_model = {result.model: result for result in dataset_results if result.condition == condition}
            rows.append(
                make_row(
                    describe_condition(condition),
                    *_format_wers([results_by_model.get(model_name) for model_name in model_names]),
                )
            )
            main_result = view.main_model and results_by_model.get(view.main_model.name)
            if main_result and (hardest is None or main_result.wer > hardest[0]):
                hardest = (
                    main_result.wer,
                    describe_condition(condition) + (f" on {dataset.name}" if len(datasets) > 1 else ""),
                )
    table = Table(
        id="channel-rates",
        title="Word error rate by condition, %",
        columns=make_columns("Condition", numeric_titles=tuple(map(view.display_name, model_names))),
        rows=tuple(rows),
        caption="The same utterances, sent through other channels.",
    )
    main_name = view.display_name(view.main_model.name) if view.main_model else ""
    lead = f"Hardest for {main_name}: {hardest[1]} ({format_number(hardest[0])} %)." if hardest else ""
    return Section("channels", "Channels", TOC_HEADING, lead, tables=(table,))
