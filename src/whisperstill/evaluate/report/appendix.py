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
from whisperstill.records.eval_results import DatasetResult, SubsetResult, TrainingCurve

TOC_HEADING = "Background"


def build_subsets_section(view: ResultsView) -> Section | None:
    """Word error rate by speaker and by duration, in collapsed tables."""
    tables = []
    for index, dataset in enumerate(view.short_form_datasets):
        results = [
            view.short_form[model.name, dataset.name]
            for model in view.models
            if (model.name, dataset.name) in view.short_form
        ]
        subsets_by_kind = {
            "speaker": {result.model: result.by_speaker for result in results},
            "duration": {result.model: result.by_duration for result in results},
        }
        for kind, subsets_by_model in subsets_by_kind.items():
            if any(subsets_by_model.values()):
                title = f"{view.dataset_display_name(dataset)}, by {kind}"
                tables.append(_build_subset_table(view, f"subsets-{index}-{kind}", title, kind, subsets_by_model))
    if not tables:
        return None
    lead = _speaker_lead(view)
    return Section("subsets", "Speakers and durations", TOC_HEADING, lead, tables=tuple(tables))


def _build_subset_table(
    view: ResultsView, table_id: str, title: str, kind: str, subsets_by_model: Mapping[str, Sequence[SubsetResult]]
) -> Table:
    models = {
        model: {subset.name: subset for subset in subsets} for model, subsets in subsets_by_model.items() if subsets
    }
    sizes: dict[str, SubsetResult] = {}
    for subsets_by_name in models.values():
        for name, subset in subsets_by_name.items():
            sizes.setdefault(name, subset)
    names = list(sizes)
    if kind == "speaker" and view.main_model:
        main_subsets = models.get(view.main_model.name, {})
        names.sort(key=lambda name: -main_subsets[name].wer if name in main_subsets else 0.0)
    return Table(
        id=table_id,
        title=title,
        columns=make_columns(
            kind.capitalize(), numeric_titles=("Utterances", "Words", *map(view.display_name, models))
        ),
        rows=tuple(
            make_row(
                name,
                format_count(sizes[name].utterances),
                format_count(sizes[name].words),
                *(format_wer(subsets_by_name.get(name)) for subsets_by_name in models.values()),
            )
            for name in names
        ),
        caption="Word error rate, %.",
        collapsed=True,
    )


def _speaker_lead(view: ResultsView) -> str:
    results: Sequence[DatasetResult] = view.short_form_results(view.main_model.name) if view.main_model else []
    speaker_rates = [
        (subset.wer, subset.name, result.dataset) for result in results for subset in result.by_speaker if subset.words
    ]
    if view.main_model is None or len(speaker_rates) < 2:
        return ""
    lowest, highest = (
        f"{format_number(wer)} % ({speaker}, {dataset})"
        for wer, speaker, dataset in (min(speaker_rates), max(speaker_rates))
    )
    return f"WER of {view.display_name(view.main_model.name)} by speaker: from {lowest} to {highest}."


def build_training_section(view: ResultsView) -> Section | None:
    """Loss and validation WER by step, and the counts of the filter."""
    curves = [curve for curve in view.eval_results.training_curves if curve.points or curve.filter_summary]
    if not curves:
        return None
    charts = (
        _build_curve_chart(view, curves, "training-loss", "Training loss", "loss, nats per token, logarithmic", "loss"),
        _build_curve_chart(view, curves, "training-wer", "Validation", "validation WER %", "validation_wer"),
    )
    tables = (_build_filter_table(view, [curve for curve in curves if curve.filter_summary]),)
    return Section(
        id="training",
        title="Training",
        toc_heading=TOC_HEADING,
        lead=_training_lead(view, curves),
        tables=tuple(table for table in tables if table),
        charts=tuple(chart for chart in charts if chart),
    )


def _build_curve_chart(
    view: ResultsView, curves: list[TrainingCurve], chart_id: str, title: str, y_label: str, field_name: str
) -> Chart | None:
    series = []
    for index, curve in enumerate(curves):
        values = ((point.step, getattr(point, field_name)) for point in curve.points)
        points = tuple(Point(step, value) for step, value in values if value is not None)
        if len(points) > 1:
            series.append(
                Series(
                    view.display_name(curve.model), _downsample(points), view.model_indices.get(curve.model, index + 1)
                )
            )
    use_log_y = field_name == "loss" and all(point.y > 0 for line in series for point in line.points)
    y_label = y_label if use_log_y or field_name != "loss" else y_label.removesuffix(", logarithmic")
    return Chart(chart_id, title, "lines", "step", y_label, tuple(series), log_y=use_log_y) if series else None


def _downsample(points: tuple[Point, ...], max_points: int = 300) -> tuple[Point, ...]:
    """At most `max_points` points: the means of groups of neighbours."""
    group_size = -(-len(points) // max_points)
    groups = [points[start : start + group_size] for start in range(0, len(points), group_size)]
    return tuple(
        Point(point_group[-1].x, sum(point.y for point in point_group) / len(point_group)) for point_group in groups
    )


def _training_lead(view: ResultsView, curves: list[TrainingCurve]) -> str:
    sentences = []
    for curve in curves:
        validations = [(point.validation_wer, point.step) for point in curve.points if point.validation_wer is not None]
        if validations:
            best_wer, best_step = min(validations)
            last_step = max(point.step for point in curve.points)
            sentences.append(
                f"{view.display_name(curve.model)}: best at step {format_count(best_step)} of "
                f"{format_count(last_step)} ({format_number(best_wer)} %)."
            )
    return " ".join(sentences)


def _build_filter_table(view: ResultsView, curves: list[TrainingCurve]) -> Table | None:
    if not curves:
        return None
    rules = list(dict.fromkeys(rule for curve in curves for rule in curve.filter_summary))
    rules.sort(key=lambda rule: (rule != "kept", -max(curve.filter_summary.get(rule, 0) for curve in curves)))
    totals = [sum(curve.filter_summary.values()) for curve in curves]
    return Table(
        id="training-filter",
        title="Filter decisions",
        columns=make_columns(
            "Decision", numeric_titles=tuple(f"{view.display_name(curve.model)}, windows" for curve in curves)
        ),
        rows=(
            *(
                make_row(
                    rule.replace("_", " "),
                    *(_format_filter_share(curve, rule, total) for curve, total in zip(curves, totals, strict=True)),
                )
                for rule in rules
            ),
            make_row("all", *map(format_count, totals), kind="total"),
        ),
        caption="A window that several rules would drop counts for the first of them.",
    )


def _format_filter_share(curve: TrainingCurve, rule: str, total: int) -> TableCell:
    num_windows = curve.filter_summary.get(rule, 0)
    return TableCell(format_count(num_windows), f"({format_number(100 * num_windows / total)} %)" if total else "")


def build_failures_section(view: ResultsView) -> Section | None:
    """Measurements that failed."""
    failed = view.eval_results.failures
    if not failed:
        return None
    table = Table(
        id="failures-list",
        title="Not measured",
        columns=make_columns("Measurement", "Reason"),
        rows=tuple(make_row(failure.subject, failure.reason) for failure in failed),
        collapsed=len(failed) > 20,
    )
    return Section("failures", "Failures", TOC_HEADING, tables=(table,))


def build_provenance_section(view: ResultsView) -> Section | None:
    """Models, datasets, versions and machine."""
    tables = [
        table
        for table in (_build_model_table(view), _build_dataset_table(view), _build_environment_table(view))
        if table.rows
    ]
    return Section("provenance", "Provenance", TOC_HEADING, tables=tuple(tables)) if tables else None


def _build_model_table(view: ResultsView) -> Table:
    table = Table(
        id="provenance-models",
        title="Models",
        columns=make_columns(
            *("Model", "Role", "Engine", "dtype", "Device", "Source", "SHA-256"),
            numeric_titles=("Parameters, M", "Encoder", "Decoder", "Embedding", "Encoder layers", "Decoder layers"),
        ),
        rows=tuple(
            make_row(
                view.display_name(model.name),
                *(model.role or NOT_MEASURED, model.engine, model.dtype or NOT_MEASURED, model.device or NOT_MEASURED),
                *(model.source or NOT_MEASURED, model.sha256[:12] or NOT_MEASURED),
                *map(format_millions, (model.parameters, model.parameters_encoder, model.parameters_decoder)),
                format_millions(model.parameters_embedding),
                *(
                    format_count(num_layers) if num_layers else NOT_MEASURED
                    for num_layers in (model.encoder_layers, model.decoder_layers)
                ),
            )
            for model in view.models
        ),
    )
    return table.drop_empty_columns()


def _build_dataset_table(view: ResultsView) -> Table:
    table = Table(
        id="provenance-datasets",
        title="Datasets",
        columns=make_columns(
            *("Dataset", "Distribution", "Form", "Language", "Normalizer", "Unit", "SHA-256"),
            numeric_titles=("Utterances", "Hours", "Words"),
        ),
        rows=tuple(
            make_row(
                dataset.name,
                NOT_MEASURED if dataset.non_speech else "in" if dataset.in_distribution else "out of",
                "no speech" if dataset.non_speech else "long" if dataset.long_form else "short",
                *(
                    dataset.language or NOT_MEASURED,
                    dataset.normalizer or NOT_MEASURED,
                    f"{dataset.unit}s" if dataset.unit else NOT_MEASURED,
                ),
                dataset.sha256[:12] or NOT_MEASURED,
                format_count(dataset.utterances),
                format_number(dataset.hours, 2),
                format_count(dataset.words),
            )
            for dataset in view.datasets
        ),
    )
    return table.drop_empty_columns()


def _build_environment_table(view: ResultsView) -> Table:
    return Table(
        id="provenance-environment",
        title="Environment",
        columns=make_columns("Key", "Value"),
        rows=tuple(make_row(key, text) for key, text in _flatten(view.eval_results.provenance)),
    )


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
