"""Appendix: error rates by speaker and duration, training curves, failures, models, datasets and environment."""

import json
from collections.abc import Mapping, Sequence

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
    Section,
    Series,
    Table,
    TableCell,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.formatting import format_count, format_millions, format_number, format_wer
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import SubsetResult, TrainingCurve

TOC_HEADING = "Background"


def build_error_examples_section(view: ResultsView) -> Section | None:
    """Utterances with the most errors, aligned word by word."""
    if not view.eval_results.error_examples:
        return None
    lead = "Reference and transcripts, aligned word by word after normalization."
    return Section("error-examples", "Error examples", TOC_HEADING, lead, kind="error_examples")


def build_subsets_section(view: ResultsView) -> Section | None:
    """Word error rate by speaker and by duration, in collapsed tables."""
    tables = []
    for index, dataset in enumerate(view.short_form_datasets):
        results = [result for (_, name), result in view.short_form.items() if name == dataset.name]
        results.sort(key=lambda result: view.model_indices[result.model])
        for kind in ("speaker", "duration"):
            subsets = {
                result.model: {subset.name: subset for subset in by_kind}
                for result in results
                if (by_kind := result.by_speaker if kind == "speaker" else result.by_duration)
            }
            if subsets:
                title = f"{view.dataset_display_name(dataset)}, by {kind}"
                tables.append(_build_subset_table(view, f"subsets-{index}-{kind}", title, kind, subsets))
    if not tables:
        return None
    return Section("subsets", "Speakers and durations", TOC_HEADING, _speaker_lead(view), tables)


def _build_subset_table(
    view: ResultsView, table_id: str, title: str, kind: str, subsets_by_model: Mapping[str, Mapping[str, SubsetResult]]
) -> Table:
    subsets: dict[str, SubsetResult] = {}
    for model_subsets in subsets_by_model.values():
        subsets |= {name: subset for name, subset in model_subsets.items() if name not in subsets}
    names = list(subsets)
    if kind == "speaker" and view.main_model:
        main_subsets = subsets_by_model.get(view.main_model.name, {})
        names.sort(key=lambda name: -main_subsets[name].wer if name in main_subsets else 0.0)
    rows = [
        make_row(
            name,
            format_count(subsets[name].utterances),
            format_count(subsets[name].words),
            *(format_wer(model_subsets.get(name)) for model_subsets in subsets_by_model.values()),
        )
        for name in names
    ]
    columns = make_columns(kind.capitalize(), "Utterances", "Words", *map(view.display_name, subsets_by_model))
    return Table(table_id, title, columns, rows, "Word error rate, %.", collapsed=True)


def _speaker_lead(view: ResultsView) -> str:
    if view.main_model is None:
        return ""
    results = view.short_form_results(view.main_model.name)
    rates = [(sub.wer, sub.name, result.dataset) for result in results for sub in result.by_speaker if sub.words]
    if len(rates) < 2:
        return ""
    ends = (min(rates), max(rates))
    lowest, highest = (f"{format_number(wer)} % ({speaker}, {dataset})" for wer, speaker, dataset in ends)
    return f"WER of {view.display_name(view.main_model.name)} by speaker: from {lowest} to {highest}."


def build_training_section(view: ResultsView) -> Section | None:
    """Loss and validation WER by step, and the counts of the filter."""
    curves = [curve for curve in view.eval_results.training_curves if curve.points or curve.filter_summary]
    if not curves:
        return None
    losses = _curve_series(view, curves, "loss")
    wers = _curve_series(view, curves, "validation_wer")
    is_positive = all(point.y > 0 for line in losses for point in line.points)
    loss_label = f"loss, nats per token{', logarithmic' if is_positive else ''}"
    charts = (
        Chart("training-loss", "Training loss", "lines", "step", loss_label, losses, log_y=is_positive),
        Chart("training-wer", "Validation", "lines", "step", "validation WER %", wers),
    )
    filtered = [curve for curve in curves if curve.filter_summary]
    tables = [_build_filter_table(view, filtered)] if filtered else []
    return Section("training", "Training", TOC_HEADING, _training_lead(view, curves), tables, charts)


def _curve_series(view: ResultsView, curves: list[TrainingCurve], metric: str) -> list[Series]:
    series = []
    for index, curve in enumerate(curves):
        values = [(point.step, getattr(point, metric)) for point in curve.points]
        points = [Point(step, value) for step, value in values if value is not None]
        if len(points) > 1:
            style_index = view.model_indices.get(curve.model, index + 1)
            series.append(Series(view.display_name(curve.model), _downsample(points), style_index))
    return series


def _downsample(points: Sequence[Point], max_points: int = 300) -> list[Point]:
    """At most `max_points` points: the means of groups of neighbours."""
    group_size = -(-len(points) // max_points)
    groups = [points[start : start + group_size] for start in range(0, len(points), group_size)]
    return [Point(group[-1].x, sum(point.y for point in group) / len(group)) for group in groups]


def _training_lead(view: ResultsView, curves: list[TrainingCurve]) -> str:
    sentences = []
    for curve in curves:
        validations = [(point.validation_wer, point.step) for point in curve.points if point.validation_wer is not None]
        if validations:
            best_wer, best_step = min(validations)
            steps_text = f"{format_count(best_step)} of {format_count(max(point.step for point in curve.points))}"
            name = view.display_name(curve.model)
            sentences.append(f"{name}: best at step {steps_text} ({format_number(best_wer)} %).")
    return " ".join(sentences)


def _build_filter_table(view: ResultsView, curves: list[TrainingCurve]) -> Table:
    summaries = [curve.filter_summary for curve in curves]
    totals = [sum(summary.values()) for summary in summaries]
    rules = list(dict.fromkeys(rule for summary in summaries for rule in summary))
    rules.sort(key=lambda rule: (rule != "kept", -max(summary.get(rule, 0) for summary in summaries)))
    rows = []
    for rule in rules:
        counts = [summary.get(rule, 0) for summary in summaries]
        shares = [
            f"({format_number(100 * n / total)} %)" if total else "" for n, total in zip(counts, totals, strict=True)
        ]
        rows.append(make_row(rule.replace("_", " "), *map(TableCell, map(format_count, counts), shares)))
    return Table(
        id="training-filter",
        title="Filter decisions",
        columns=make_columns("Decision", *(f"{view.display_name(curve.model)}, windows" for curve in curves)),
        rows=[*rows, make_row("all", *map(format_count, totals), kind="total")],
        caption="A window that several rules would drop counts for the first of them.",
    )


def build_failures_section(view: ResultsView) -> Section | None:
    """Measurements that failed."""
    failures = view.eval_results.failures
    if not failures:
        return None
    rows = [make_row(failure.subject, failure.reason) for failure in failures]
    columns = make_columns("Measurement", "Reason", text=2)
    table = Table("failures-list", "Not measured", columns, rows, collapsed=len(failures) > 20)
    return Section("failures", "Failures", TOC_HEADING, tables=[table])


def build_provenance_section(view: ResultsView) -> Section | None:
    """Models, datasets, versions and machine."""
    environment = [make_row(key, text) for key, text in _flatten(view.eval_results.provenance)]
    tables = [
        _build_model_table(view),
        _build_dataset_table(view),
        Table("provenance-environment", "Environment", make_columns("Key", "Value", text=2), environment),
    ]
    tables = [table for table in tables if table.rows]
    return Section("provenance", "Provenance", TOC_HEADING, tables=tables) if tables else None


def _build_model_table(view: ResultsView) -> Table:
    columns = make_columns(
        *("Model", "Role", "Engine", "dtype", "Device", "Source", "SHA-256"),
        *("Parameters, M", "Encoder", "Decoder", "Embedding", "Encoder layers", "Decoder layers"),
        text=7,
    )
    rows = []
    for model in view.models:
        texts = (model.role, model.engine, model.dtype, model.device, model.source, model.sha256[:12])
        sizes = (model.parameters, model.parameters_encoder, model.parameters_decoder, model.parameters_embedding)
        layers = (model.encoder_layers, model.decoder_layers)
        rows.append(
            make_row(
                view.display_name(model.name),
                *(text or NOT_MEASURED for text in texts),
                *map(format_millions, sizes),
                *(format_number(number or None, 0) for number in layers),
            )
        )
    return Table("provenance-models", "Models", columns, rows).drop_empty_columns()


def _build_dataset_table(view: ResultsView) -> Table:
    columns = make_columns(
        *("Dataset", "Distribution", "Form", "Language", "Normalizer", "Unit", "SHA-256"),
        *("Utterances", "Hours", "Words"),
        text=7,
    )
    rows = []
    for dataset in view.datasets:
        distribution, form = "in" if dataset.in_distribution else "out of", "long" if dataset.long_form else "short"
        if dataset.non_speech:
            form = "no speech"
        if dataset.non_speech or not view.has_distributions:
            distribution = ""
        unit = dataset.unit and f"{dataset.unit}s"
        texts = (distribution, form, dataset.language, dataset.normalizer, unit, dataset.sha256[:12])
        sizes = (format_count(dataset.utterances), format_number(dataset.hours, 2), format_count(dataset.words))
        rows.append(make_row(dataset.name, *(text or NOT_MEASURED for text in texts), *sizes))
    return Table("provenance-datasets", "Datasets", columns, rows).drop_empty_columns()


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
            rows.append((f"{prefix}{key}", " ".join(map(str, value))))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            rows.append((f"{prefix}{key}", text))
    return rows
