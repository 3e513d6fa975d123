"""Appendix: error rates by speaker and duration, training curves, failures, models, datasets and environment."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import Cell, Chart, Columns, Point, Section, Series, Table
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetInfo, Failure, ModelInfo, SubsetResult, TrainingCurve

TOC_HEADING = "Background"


def build_error_examples_section(view: ResultsView) -> Section:
    """Utterances with the most errors, aligned word by word."""
    lead = "Reference and transcripts, aligned word by word after normalization."
    special: Literal["", "error_examples"] = "error_examples" if view.eval_results.error_examples else ""
    return Section("error-examples", "Error examples", TOC_HEADING, lead, special=special)


def build_subsets_section(view: ResultsView) -> Section:
    """Word error rate by speaker and by duration, in collapsed tables."""
    tables = []
    for dataset in view.short_form_datasets:
        results = [result for result in view.short_form.values() if result.dataset == dataset.name]
        by_kind = {
            "speaker": {result.model: result.by_speaker for result in results if result.by_speaker},
            "duration": {result.model: result.by_duration for result in results if result.by_duration},
        }
        for kind, subsets_by_model in by_kind.items():
            table_id = f"subsets-{view.datasets.index(dataset)}-{kind}"
            title = f"{view.dataset_title(dataset.name)}, by {kind}"
            tables.append(_build_subset_table(view, table_id, title, kind, subsets_by_model))
    return Section("subsets", "Speakers and durations", TOC_HEADING, "", tables)


def _build_subset_table(
    view: ResultsView, table_id: str, title: str, kind: str, subsets_by_model: Mapping[str, Sequence[SubsetResult]]
) -> Table:
    """Error rates by subset and model; speakers with the most errors of the main model come first."""
    rows: dict[str, dict[str, SubsetResult]] = {}
    for model_name, subsets in subsets_by_model.items():
        for subset in subsets:
            rows.setdefault(subset.name, {})[model_name] = subset

    def wer_cell(model_name: str, row: Mapping[str, SubsetResult]) -> Cell:
        return fmt.wer(row.get(model_name))

    columns: Columns[Mapping[str, SubsetResult]] = [
        (kind.capitalize(), lambda row: _first(row).name),
        ("Utterances", lambda row: fmt.count(_first(row).utterances)),
        ("Words", lambda row: fmt.count(_first(row).words)),
        *view.model_columns(subsets_by_model, wer_cell),
    ]
    ordered = list(rows.values())
    if kind == "speaker" and view.main_model:
        main_name = view.main_model.name
        ordered.sort(key=lambda row: -row[main_name].wer if main_name in row else 0.0)
    return Table.build(table_id, title, columns, {"": ordered}, "Word error rate, %.", collapsed=True)


def _first(row: Mapping[str, SubsetResult]) -> SubsetResult:
    return next(iter(row.values()))


def build_training_section(view: ResultsView) -> Section:
    """Loss and validation WER by step, and the counts of the filter."""
    curves = view.eval_results.training_curves
    losses = _curve_series(view, "loss")
    is_positive = all(point.y > 0 for line in losses for point in line.points)
    loss_label = f"loss, nats per token{', logarithmic' if is_positive else ''}"
    wers = _curve_series(view, "validation_wer")
    charts = [
        Chart("training-loss", "Training loss", "lines", "step", loss_label, losses, {}, log_y=is_positive),
        Chart("training-wer", "Validation", "lines", "step", "validation WER %", wers, {}),
    ]
    sentences = []
    for curve in curves:
        validations = [(point.validation_wer, point.step) for point in curve.points if point.validation_wer is not None]
        if validations:
            best_wer, best_step = min(validations)
            steps_text = f"{fmt.count(best_step)} of {fmt.count(max(point.step for point in curve.points))}"
            name = view.display_name(curve.model)
            sentences.append(f"{name}: best at step {steps_text} ({fmt.number(best_wer)} %).")
    tables = [_build_filter_table(view, [curve for curve in curves if curve.filter_summary])]
    return Section("training", "Training", TOC_HEADING, " ".join(sentences), tables, charts)


def _curve_series(view: ResultsView, metric: str) -> list[Series]:
    series = []
    for index, curve in enumerate(view.eval_results.training_curves):
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


def _build_filter_table(view: ResultsView, curves: Sequence[TrainingCurve]) -> Table:
    by_model = {curve.model: curve.filter_summary for curve in curves}
    rules = dict.fromkeys(rule for summary in by_model.values() for rule in summary)

    def count_cell(model_name: str, rule: str) -> Cell:
        counts = by_model[model_name]
        total = sum(counts.values())
        if not rule:
            return Cell(fmt.count(total))
        count = counts.get(rule, 0)
        return Cell(fmt.count(count), f"({fmt.number(100 * count / total)} %)" if total else "")

    columns: Columns[str] = [
        ("Decision", lambda rule: Cell(rule.replace("_", " ") or "all", total=not rule)),
        *view.model_columns(by_model, count_cell),
    ]
    ordered = sorted(rules, key=lambda rule: (rule != "kept", -max(s.get(rule, 0) for s in by_model.values())))
    caption = "Windows. One that several rules would drop counts for the first of them."
    groups = {"": [*ordered, ""] if rules else []}
    return Table.build("training-filter", "Filter decisions", columns, groups, caption)


def build_failures_section(view: ResultsView) -> Section:
    """Measurements that failed."""
    failures = view.eval_results.failures
    columns: Columns[Failure] = [
        ("Measurement", lambda failure: failure.subject),
        ("Reason", lambda failure: failure.reason),
    ]
    groups, collapsed = {"": failures}, len(failures) > 20
    table = Table.build("failures-list", "Not measured", columns, groups, text_columns=2, collapsed=collapsed)
    return Section("failures", "Failures", TOC_HEADING, tables=[table])


def build_provenance_section(view: ResultsView) -> Section:
    """Models, datasets, versions and machine."""
    columns: Columns[tuple[str, str]] = [("Key", lambda entry: entry[0]), ("Value", lambda entry: entry[1])]
    entries = {"": _flatten(view.eval_results.provenance)}
    environment = Table.build("provenance-environment", "Environment", columns, entries, text_columns=2)
    tables = [_build_model_table(view), _build_dataset_table(view), environment]
    return Section("provenance", "Provenance", TOC_HEADING, tables=tables)


def _build_model_table(view: ResultsView) -> Table:
    columns: Columns[ModelInfo] = [
        ("Model", lambda model: view.display_name(model.name)),
        ("Role", lambda model: model.role),
        ("Engine", lambda model: model.engine),
        ("dtype", lambda model: model.dtype),
        ("Device", lambda model: model.device),
        ("Source", lambda model: model.source),
        ("SHA-256", lambda model: model.sha256[:12]),
        ("Parameters, M", lambda model: fmt.millions(model.parameters)),
        ("Encoder", lambda model: fmt.millions(model.parameters_encoder)),
        ("Decoder", lambda model: fmt.millions(model.parameters_decoder)),
        ("Embedding", lambda model: fmt.millions(model.parameters_embedding)),
        ("Encoder layers", lambda model: fmt.number(model.encoder_layers or None, 0)),
        ("Decoder layers", lambda model: fmt.number(model.decoder_layers or None, 0)),
    ]
    return Table.build("provenance-models", "Models", columns, {"": view.models}, text_columns=7)


def _build_dataset_table(view: ResultsView) -> Table:
    def distribution(dataset: DatasetInfo) -> str:
        is_known = view.has_distributions and not dataset.non_speech
        return ("in" if dataset.in_distribution else "out of") if is_known else ""

    columns: Columns[DatasetInfo] = [
        ("Dataset", lambda dataset: dataset.name),
        ("Distribution", distribution),
        ("Form", lambda dataset: "no speech" if dataset.non_speech else "long" if dataset.long_form else "short"),
        ("Language", lambda dataset: dataset.language),
        ("Normalizer", lambda dataset: dataset.normalizer),
        ("Unit", lambda dataset: dataset.unit and f"{dataset.unit}s"),
        ("SHA-256", lambda dataset: dataset.sha256[:12]),
        ("Utterances", lambda dataset: fmt.count(dataset.utterances)),
        ("Hours", lambda dataset: fmt.number(dataset.hours, 2)),
        ("Words", lambda dataset: fmt.count(dataset.words)),
    ]
    return Table.build("provenance-datasets", "Datasets", columns, {"": view.datasets}, text_columns=7)


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and texts of nested values."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
            rows.append((f"{prefix}{key}", " ".join(map(str, value))))
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows
