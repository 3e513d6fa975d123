"""Word error rates: the headline table, and all short-form datasets."""

from whisperstill.evaluate.report.blocks import NOT_MEASURED, Chart, Point, Section, Table, make_columns, make_row
from whisperstill.evaluate.report.formatting import (
    format_count,
    format_millions,
    format_number,
    format_rate,
    format_ratio,
    format_wer,
    join_names,
)
from whisperstill.evaluate.report.view import ResultsView, format_mean_wer, mean_wer
from whisperstill.records.eval_results import DatasetInfo

TOC_HEADING = "Accuracy"
MEAN_NOTE = "Means are unweighted over datasets; their intervals take datasets as independent."


def _split_by_distribution(view: ResultsView) -> tuple[list[DatasetInfo], list[DatasetInfo]]:
    """Short-form datasets in and out of distribution."""
    in_distribution = [dataset for dataset in view.short_form_datasets if dataset.in_distribution]
    return in_distribution, [dataset for dataset in view.short_form_datasets if not dataset.in_distribution]


def build_headline_section(view: ResultsView) -> Section | None:
    """Parameters, speed and error rates of every model (the first table of the paper)."""
    if not view.models:
        return None
    near, far = _split_by_distribution(view)
    long_form_datasets = view.out_of_distribution_long_form_datasets
    rows = []
    for model in view.models:
        strategy, long_form_results = view.best_strategy(model.name, long_form_datasets) or (NOT_MEASURED, [])
        rows.append(
            make_row(
                view.display_name(model.name),
                format_millions(model.parameters),
                format_ratio(view.relative_speed(model.name)),
                format_mean_wer(view.short_form_results(model.name, in_distribution=True), len(near)),
                format_mean_wer(view.short_form_results(model.name, in_distribution=False), len(far)),
                format_mean_wer(long_form_results, len(long_form_datasets)),
                strategy,
            )
        )
    far_text = ", out of distribution" if view.has_distributions else ""
    all_near = all(dataset.in_distribution for dataset in long_form_datasets)
    columns = make_columns(
        *("Model", "Parameters, M", "Relative speed", "WER %, short form, in distribution"),
        *(f"WER %, short form{far_text}", f"WER %, long form{'' if all_near else far_text}"),
    )
    notes = [MEAN_NOTE] if max(len(near), len(far), len(long_form_datasets)) > 1 else []
    if any(view.relative_speed(model.name) for model in view.models):
        notes.append("Relative speed: the teacher's latency over the model's at batch size 1.")
    if view.long_form:
        notes.append("Long form: best strategy of each model.")
    table = Table(
        id="headline-models",
        title="Size, speed and word error rate",
        columns=(*columns, *make_columns("Strategy")),
        rows=rows,
        caption=" ".join(notes),
    )
    return Section("headline", "Headline", TOC_HEADING, "", [table.drop_empty_columns()], _build_cost_chart(view))


def _build_cost_chart(view: ResultsView) -> list[Chart]:
    has_far = view.has_distributions and any(not dataset.in_distribution for dataset in view.short_form_datasets)
    points_by_model = {}
    for model in view.models:
        mean = mean_wer(view.short_form_results(model.name, in_distribution=False if has_far else None))
        speed = view.relative_speed(model.name)
        if mean and speed:
            points_by_model[model.name] = [Point(speed, mean.value, mean.low, mean.high)]
    x_label = "relative speed at batch size 1 (higher is faster)"
    y_label = f"WER %, {'out of distribution' if has_far else 'short form'}"
    series = view.build_series(points_by_model)
    chart = Chart("cost", "Accuracy against speed", "scatter", x_label, y_label, series)
    return [chart] if len(points_by_model) > 1 else []


def build_short_form_section(view: ResultsView) -> Section | None:
    """Word error rate by short-form dataset and model."""
    if not view.short_form:
        return None
    names = [model.name for model in view.models if view.short_form_results(model.name)]
    near, far = _split_by_distribution(view)
    rows = []
    for title, datasets in (("In distribution", near), ("Out of distribution", far)):
        if near and far:
            rows.append(make_row(title, kind="group"))
        for dataset in datasets:
            wers = (format_wer(view.short_form.get((name, dataset.name))) for name in names)
            rows.append(make_row(view.dataset_display_name(dataset), format_count(dataset.words), *wers))
        if len(datasets) > 1:
            results = (view.short_form_results(name, in_distribution=datasets is near) for name in names)
            means = (format_mean_wer(model_results, len(datasets)) for model_results in results)
            num_words = sum(dataset.words for dataset in datasets)
            rows.append(make_row("Mean", format_count(num_words), *means, kind="total"))
    mean_note = MEAN_NOTE if len(view.short_form_datasets) > 1 else ""
    table = Table(
        id="short-form-datasets",
        title="Word error rate by dataset, %",
        columns=make_columns("Dataset", "Words", *map(view.display_name, names)),
        rows=rows,
        caption=f"In brackets 95 % bootstrap intervals over utterances. {mean_note}",
    )
    tables = [table, _build_details_table(view)]
    charts = _build_dataset_chart(view, names)
    return Section("short-form", "Short form", TOC_HEADING, _compare_with_teacher(view), tables, charts)


def _compare_with_teacher(view: ResultsView) -> str:
    """On how many datasets each model differs from the teacher."""
    if view.teacher is None:
        return ""
    sentences = []
    for model in view.compared_models:
        results = view.short_form_results(model.name)
        differences = [result.difference_to_teacher for result in results if result.difference_to_teacher]
        if not differences:
            continue
        num_worse = sum(difference.low > 0 for difference in differences)
        num_better = sum(difference.high < 0 for difference in differences)
        outcome_counts = {
            "worse": num_worse,
            "better": num_better,
            "not clearly different": len(differences) - num_worse - num_better,
        }
        on = "on all" if max(outcome_counts.values()) == len(differences) > 1 else "on"
        parts = [f"{outcome} {on} {count}" for outcome, count in outcome_counts.items() if count]
        datasets_text = "datasets" if len(parts) == 1 else f"of {len(differences)} datasets"
        datasets_text = datasets_text if len(differences) > 1 else "dataset"
        sentences.append(f"{view.display_name(model.name)} is {join_names(parts)} {datasets_text}")
    return f"Against {view.display_name(view.teacher.name)}: {'; '.join(sentences)}." if sentences else ""


def _build_dataset_chart(view: ResultsView, model_names: list[str]) -> list[Chart]:
    datasets = view.short_form_datasets
    points_by_model = {
        name: [
            Point(result.wer, index, result.wer_low, result.wer_high)
            for index, dataset in enumerate(datasets)
            if (result := view.short_form.get((name, dataset.name)))
        ]
        for name in model_names
    }
    title, x_label = "Word error rate by dataset", "WER %, with 95 % intervals"
    rows = list(map(view.dataset_display_name, datasets))
    chart = Chart("short-form-chart", title, "dots", x_label, "", view.build_series(points_by_model), rows)
    return [chart] if len(datasets) * len(model_names) > 1 else []


def _build_details_table(view: ResultsView) -> Table:
    rows = [
        make_row(
            result.dataset,
            view.display_name(result.model),
            format_wer(result),
            format_rate(result.cer, result.cer_low, result.cer_high),
            format_number(result.wer_orthographic),
            *map(format_count, (result.substitutions, result.deletions, result.insertions)),
            format_number(result.agreement_with_teacher),
            format_count(result.utterances),
            format_number(result.real_time_factor or None, 3),
        )
        for result in view.select_results("short_form", clean_only=True)
    ]
    table = Table(
        id="short-form-details",
        title="All short-form error rates",
        columns=make_columns(
            *("Dataset", "Model", "WER %", "CER %", "Unnormalized WER %", "Substitutions", "Deletions", "Insertions"),
            *("Same text as the teacher, %", "Utterances", "RTF"),
            text=2,
        ),
        rows=rows,
        caption="Unnormalized WER counts case and punctuation. RTF: real-time factor, seconds of computing per "
        "second of audio, batched.",
        collapsed=True,
    )
    return table.drop_empty_columns()
