"""Word error rates: the headline table, all short-form datasets, and rates by condition."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import Cell, Chart, Columns, Point, Section, Table
from whisperstill.evaluate.report.comparison import compare_short_form, format_mean_wer, mean_wer
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult, ModelInfo

TOC_HEADING = "Accuracy"
MEAN_NOTE = "Means are unweighted over datasets; their intervals take datasets as independent."

WerRow = tuple[Cell, Sequence[DatasetResult]]
"""First cell of a row, and the results of all models whose means it shows."""


def group_by(results: Iterable[DatasetResult], title: Callable[[DatasetResult], str]) -> dict[str, list[DatasetResult]]:
    """Results by title, in order of appearance."""
    groups: dict[str, list[DatasetResult]] = {}
    for result in results:
        groups.setdefault(title(result), []).append(result)
    return groups


def wer_columns(view: ResultsView, first_title: str, results: Iterable[DatasetResult]) -> Columns[WerRow]:
    """The first cells, and a column of mean error rates for each model that has results."""

    def mean_cell(model_name: str, row: WerRow) -> Cell:
        own = [result for result in row[1] if result.model == model_name]
        num_datasets = len({result.dataset for result in row[1]})
        return fmt.wer(own[0]) if len(own) == num_datasets == 1 else format_mean_wer(own, num_datasets)

    return [(first_title, lambda row: row[0]), *view.model_columns(view.measured_models(results), mean_cell)]


def wer_rows(groups: Mapping[str, Sequence[DatasetResult]], total: str = "") -> list[WerRow]:
    """One row per group and, if there are several, one named `total` over all of them."""
    rows = [(Cell(title), results) for title, results in groups.items()]
    everything = [result for results in groups.values() for result in results]
    return [*rows, (Cell(total, total=True), everything)] if total and len(rows) > 1 else rows


def build_headline_section(view: ResultsView) -> Section:
    """Parameters, speed and error rates of every model (the first table of the paper)."""
    long_form_datasets = view.out_of_distribution_long_form_datasets
    num_near = sum(dataset.in_distribution for dataset in view.short_form_datasets)
    num_far = len(view.short_form_datasets) - num_near

    def short_form_cell(model: ModelInfo, in_distribution: bool) -> Cell:
        results = view.short_form_results(model.name, in_distribution)
        return format_mean_wer(results, num_near if in_distribution else num_far)

    far_text = ", out of distribution" if view.has_distributions else ""
    long_text = "" if all(dataset.in_distribution for dataset in long_form_datasets) else far_text
    best = {model.name: view.best_strategy(model.name, long_form_datasets) for model in view.models}
    columns: Columns[ModelInfo] = [
        ("Model", lambda m: view.display_name(m.name)),
        ("Parameters, M", lambda m: fmt.millions(m.parameters)),
        ("Relative speed", lambda m: fmt.ratio(view.relative_speed(m.name))),
        ("WER %, short form, in distribution", lambda m: short_form_cell(m, True)),
        (f"WER %, short form{far_text}", lambda m: short_form_cell(m, False)),
        (f"WER %, long form{long_text}", lambda m: format_mean_wer(best[m.name][1], len(long_form_datasets))),
        ("Strategy", lambda m: best[m.name][0]),
    ]
    notes = [MEAN_NOTE] if max(num_near, num_far, len(long_form_datasets)) > 1 else []
    if any(view.relative_speed(model.name) for model in view.models):
        notes.append("Relative speed: the teacher's latency over the model's at batch size 1.")
    if view.long_form:
        notes.append("Long form: best strategy of each model.")
    title = "Size, speed and word error rate"
    table = Table.build("headline-models", title, columns, {"": view.models}, " ".join(notes))
    return Section("headline", "Headline", TOC_HEADING, "", [table], _build_cost_chart(view))


def _build_cost_chart(view: ResultsView) -> list[Chart]:
    has_far = view.has_distributions and any(not dataset.in_distribution for dataset in view.short_form_datasets)
    points_by_model = {}
    for model in view.models:
        mean = mean_wer(view.short_form_results(model.name, False if has_far else None))
        speed = view.relative_speed(model.name)
        if mean and speed:
            points_by_model[model.name] = [Point(speed, mean.value, mean.low, mean.high)]
    x_label = "relative speed at batch size 1 (higher is faster)"
    y_label = f"WER %, {'out of distribution' if has_far else 'short form'}"
    series = view.model_series(points_by_model)
    chart = Chart("cost", "Accuracy against speed", "scatter", x_label, y_label, series, {})
    return [chart] if len(points_by_model) > 1 else []


def build_short_form_section(view: ResultsView) -> Section:
    """Word error rate by short-form dataset and model."""
    results = list(view.short_form.values())
    datasets = {dataset.name: dataset for dataset in view.short_form_datasets}
    near = [result for result in results if datasets[result.dataset].in_distribution]
    far = [result for result in results if not datasets[result.dataset].in_distribution]
    groups = {
        title: wer_rows(group_by(members, lambda result: view.dataset_title(result.dataset)), "Mean")
        for title, members in (("In distribution", near), ("Out of distribution" if near else "", far))
    }
    first_column, *model_columns = wer_columns(view, "Dataset", results)
    columns: Columns[WerRow] = [
        first_column,
        ("Words", lambda row: fmt.count(sum(datasets[name].words for name in {r.dataset for r in row[1]}))),
        *model_columns,
    ]
    caption = f"In brackets 95 % bootstrap intervals over utterances. {MEAN_NOTE if len(datasets) > 1 else ''}"
    table = Table.build("short-form-datasets", "Word error rate by dataset, %", columns, groups, caption)
    ticks: dict[float, str] = dict(enumerate(map(view.dataset_title, datasets)))
    indices = {name: index for index, name in enumerate(datasets)}
    series = view.wer_series(results, lambda result: indices[result.dataset])
    title, y_label = "Word error rate by dataset", "WER %, with 95 % intervals"
    charts = [Chart("short-form-chart", title, "dots", "", y_label, series, ticks)] if len(results) > 1 else []
    tables = [table, _build_details_table(view)]
    return Section("short-form", "Short form", TOC_HEADING, _compare_with_teacher(view), tables, charts)


def _compare_with_teacher(view: ResultsView) -> str:
    """On how many datasets each model differs from the teacher."""
    sentences = []
    for model in view.compared_models:
        comparison = compare_short_form(view, model, None)
        if comparison and comparison.by_dataset:
            sentences.append(f"{view.display_name(model.name)} is {comparison.by_dataset}")
    teacher_name = view.display_name(view.teacher.name) if view.teacher else ""
    return f"Against {teacher_name}: {'; '.join(sentences)}." if sentences else ""


def _build_details_table(view: ResultsView) -> Table:
    columns: Columns[DatasetResult] = [
        ("Dataset", lambda r: r.dataset),
        ("Model", lambda r: view.display_name(r.model)),
        ("WER %", fmt.wer),
        ("CER %", lambda r: fmt.rate(r.cer, r.cer_low, r.cer_high)),
        ("Unnormalized WER %", lambda r: fmt.number(r.wer_orthographic)),
        ("Substitutions", lambda r: fmt.count(r.substitutions)),
        ("Deletions", lambda r: fmt.count(r.deletions)),
        ("Insertions", lambda r: fmt.count(r.insertions)),
        ("Same text as the teacher, %", lambda r: fmt.number(r.agreement_with_teacher)),
        ("Utterances", lambda r: fmt.count(r.utterances)),
        ("RTF", lambda r: fmt.number(r.real_time_factor or None, 3)),
    ]
    caption = (
        "Unnormalized WER counts case and punctuation. RTF: real-time factor, seconds of computing per second of "
        "audio, batched."
    )
    results = {"": view.select_results("short_form")}
    return Table.build("short-form-details", "All short-form error rates", columns, results, caption, 2, True)
