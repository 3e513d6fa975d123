"""Word error rates: the headline table, and all short-form datasets."""

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Column,
    Point,
    Row,
    Section,
    Table,
    make_columns,
    make_row,
)
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


def build_headline_section(view: ResultsView) -> Section | None:
    """Parameters, speed and error rates of every model (the first table of the paper)."""
    if not view.models:
        return None
    in_distribution = [dataset for dataset in view.short_form_datasets if dataset.in_distribution]
    out_of_distribution = [dataset for dataset in view.short_form_datasets if not dataset.in_distribution]
    long_form_datasets = view.out_of_distribution_long_form_datasets
    rows = []
    for model in view.models:
        best_long_form = view.best_strategy(model.name, long_form_datasets)
        strategy, long_form_results = best_long_form or (NOT_MEASURED.text, [])
        rows.append(
            make_row(
                view.display_name(model.name),
                format_millions(model.parameters),
                format_ratio(view.relative_speed(model.name)),
                format_mean_wer(view.short_form_results(model.name, in_distribution=True), len(in_distribution)),
                format_mean_wer(view.short_form_results(model.name, in_distribution=False), len(out_of_distribution)),
                format_mean_wer(long_form_results, len(long_form_datasets)),
                strategy,
            )
        )
    all_in_distribution = all(dataset.in_distribution for dataset in long_form_datasets)
    distribution_text = "" if all_in_distribution else ", out of distribution"
    table_columns = make_columns(
        "Model",
        numeric_titles=(
            *("Parameters, M", "Relative speed", "WER %, short form, in distribution"),
            *("WER %, short form, out of distribution", f"WER %, long form{distribution_text}"),
        ),
    )
    has_means = max(len(in_distribution), len(out_of_distribution), len(long_form_datasets)) > 1
    notes = [MEAN_NOTE] if has_means else []
    if any(view.relative_speed(model.name) for model in view.models):
        notes.append("Relative speed: the teacher's latency over the model's at batch size 1.")
    if view.long_form:
        notes.append("Long form: best strategy of each model.")
    table = Table(
        id="headline-models",
        title="Size, speed and word error rate",
        columns=(*table_columns, Column("Strategy", numeric=False)),
        rows=tuple(rows),
        caption=" ".join(notes),
    )
    return Section(
        "headline", "Headline", TOC_HEADING, tables=(table.drop_empty_columns(),), charts=_build_cost_chart(view)
    )


def _build_cost_chart(view: ResultsView) -> tuple[Chart, ...]:
    has_out_of_distribution = any(not dataset.in_distribution for dataset in view.short_form_datasets)
    in_distribution = False if has_out_of_distribution else None
    points_by_model = {}
    for model in view.models:
        mean_rate = mean_wer(view.short_form_results(model.name, in_distribution=in_distribution))
        speed = view.relative_speed(model.name)
        if mean_rate and speed:
            points_by_model[model.name] = [Point(speed, mean_rate.value, mean_rate.low, mean_rate.high)]
    if len(points_by_model) < 2:
        return ()
    datasets_text = "out of distribution" if has_out_of_distribution else "short form"
    chart = Chart(
        id="cost",
        title="Accuracy against speed",
        kind="scatter",
        x_label="relative speed at batch size 1 (higher is faster)",
        y_label=f"WER %, {datasets_text}",
        series=view.build_series(points_by_model),
    )
    return (chart,)


def build_short_form_section(view: ResultsView) -> Section | None:
    """Word error rate by short-form dataset and model."""
    if not view.short_form:
        return None
    model_names = [model.name for model in view.models if view.short_form_results(model.name)]
    in_distribution = [dataset for dataset in view.short_form_datasets if dataset.in_distribution]
    out_of_distribution = [dataset for dataset in view.short_form_datasets if not dataset.in_distribution]
    rows: list[Row] = []
    for title, datasets in (("In distribution", in_distribution), ("Out of distribution", out_of_distribution)):
        if in_distribution and out_of_distribution:
            rows.append(make_row(title, kind="group"))
        rows += [_build_dataset_row(view, dataset, model_names) for dataset in datasets]
        if len(datasets) > 1:
            means = (
                format_mean_wer(
                    view.short_form_results(model_name, in_distribution=datasets is in_distribution), len(datasets)
                )
                for model_name in model_names
            )
            rows.append(
                make_row("Mean", format_count(sum(dataset.words for dataset in datasets)), *means, kind="total")
            )
    table = Table(
        id="short-form-datasets",
        title="Word error rate by dataset, %",
        columns=make_columns("Dataset", numeric_titles=("Words", *map(view.display_name, model_names))),
        rows=tuple(rows),
        caption="In brackets 95 % bootstrap intervals over utterances. "
        + (MEAN_NOTE if len(view.short_form_datasets) > 1 else ""),
    )
    return Section(
        id="short-form",
        title="Short form",
        toc_heading=TOC_HEADING,
        lead=_compare_with_teacher(view),
        tables=(table, _build_details_table(view)),
        charts=_build_dataset_chart(view, model_names),
    )


def _build_dataset_row(view: ResultsView, dataset: DatasetInfo, model_names: list[str]) -> Row:
    rates = (format_wer(view.short_form.get((model_name, dataset.name))) for model_name in model_names)
    return make_row(view.dataset_display_name(dataset), format_count(dataset.words), *rates)


def _compare_with_teacher(view: ResultsView) -> str:
    """On how many datasets each model differs from the teacher."""
    sentences = []
    for model in view.compared_models:
        differences = [
            result.difference_to_teacher
            for result in view.short_form_results(model.name)
            if result.difference_to_teacher
        ]
        if not differences or view.teacher is None:
            continue
        num_worse = sum(difference.low > 0 for difference in differences)
        num_better = sum(difference.high < 0 for difference in differences)
        outcome_counts = {
            "worse": num_worse,
            "better": num_better,
            "not clearly different": len(differences) - num_worse - num_better,
        }
        parts = [f"{outcome} on {num_datasets}" for outcome, num_datasets in outcome_counts.items() if num_datasets]
        datasets_text = "datasets" if len(parts) == 1 else f"of {len(differences)} datasets"
        if len(parts) == 1 and len(differences) > 1:
            parts = [part.replace(" on ", " on all ") for part in parts]
        datasets_text = datasets_text if len(differences) > 1 else "dataset"
        sentences.append(f"{view.display_name(model.name)} is {join_names(parts)} {datasets_text}")
    return (
        f"Against {view.display_name(view.teacher.name)}: {'; '.join(sentences)}." if sentences and view.teacher else ""
    )


def _build_dataset_chart(view: ResultsView, model_names: list[str]) -> tuple[Chart, ...]:
    datasets = view.short_form_datasets
    if len(datasets) * len(model_names) < 2:
        return ()
    points_by_model = {
        model_name: [
            Point(result.wer, index, result.wer_low, result.wer_high)
            for index, dataset in enumerate(datasets)
            if (result := view.short_form.get((model_name, dataset.name)))
        ]
        for model_name in model_names
    }
    chart = Chart(
        id="short-form-chart",
        title="Word error rate by dataset",
        kind="dots",
        x_label="WER %, with 95 % intervals",
        y_label="",
        series=view.build_series(points_by_model),
        rows=tuple(view.dataset_display_name(dataset) for dataset in datasets),
    )
    return (chart,)


def _build_details_table(view: ResultsView) -> Table:
    table = Table(
        id="short-form-details",
        title="All short-form error rates",
        columns=make_columns(
            *("Dataset", "Model"),
            numeric_titles=(
                *("WER %", "CER %", "Unnormalized WER %", "Substitutions", "Deletions", "Insertions"),
                *("Same text as the teacher, %", "Utterances", "RTF"),
            ),
        ),
        rows=tuple(
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
        ),
        caption="Unnormalized WER counts case and punctuation. RTF: real-time factor, seconds of computing per "
        "second of audio, batched.",
        collapsed=True,
    )
    return table.drop_empty_columns()
