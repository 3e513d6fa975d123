"""What was said that nobody said (the paper's section 5.3), what was left out, and words where nobody speaks."""

from collections.abc import Sequence
from typing import Literal

from whisperstill.evaluate.report.accuracy import TOC_HEADING
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Row, Section, Table, TableCell, make_columns, make_row
from whisperstill.evaluate.report.numbers import format_count, format_number
from whisperstill.evaluate.report.view import ResultsView, describe_condition
from whisperstill.records.eval_results import DatasetResult

_METRIC_TITLES = (
    *("5-Dup", "in references", "beyond them", "Inserted %", "Substituted %", "Deleted %"),
    *("Length", "Loops", "Longest hole"),
)

UNFILTERED_DECODING = "short"
"""Decoding of a clip without the hallucination filter."""


def build_hallucination_section(view: ResultsView) -> Section | None:
    """Repeats, insertions, loops and holes of speech, pooled over datasets; words in recordings without speech."""
    tables = [
        table
        for table in (_build_speech_table(view), _build_non_speech_table(view), _build_strategy_table(view))
        if table
    ]
    if not tables:
        return None
    return Section("hallucination", "Hallucination", TOC_HEADING, _lead(view), tables=tuple(tables))


def _build_speech_table(view: ResultsView) -> Table | None:
    results_by_form: dict[str, dict[str, list[DatasetResult]]] = {}
    for model in view.models:
        if results := view.short_form_results(model.name):
            results_by_form.setdefault("Short form", {})[model.name] = results
    for model in view.models:
        if best_strategy := view.best_strategy(model.name):
            results_by_form.setdefault("Long form, each by its best strategy", {})[model.name] = best_strategy[1]
    if not results_by_form:
        return None
    rows: list[Row] = []
    for title, results_by_model in results_by_form.items():
        if len(results_by_form) > 1:
            rows.append(make_row(title, kind="group"))
        rows += [
            _build_speech_row(view.display_name(model_name), model_results)
            for model_name, model_results in results_by_model.items()
        ]
    return Table(
        id="hallucination-speech",
        title="Where somebody speaks",
        columns=make_columns("Model", numeric_titles=_METRIC_TITLES),
        rows=tuple(rows),
        caption="Pooled over datasets. 5-Dup: 5-grams of the output less distinct ones; beside it the same of the "
        "references, which is what speakers repeated themselves, and what goes beyond that. Length: words heard over "
        "words said, 95th (99th) percentile of utterances, of the dataset where it is largest. Loops: utterances with "
        "a group of words over and over. Longest hole: most words in a row that were left out.",
    )


def _build_strategy_table(view: ResultsView) -> Table | None:
    """Long recordings by every strategy, where there are several."""
    rows: list[Row] = []
    for model in view.models:
        results_by_strategy = view.results_by_strategy(model.name)
        if len(results_by_strategy) > 1:
            rows.append(make_row(view.display_name(model.name), kind="group"))
            rows += [_build_speech_row(strategy, results) for strategy, results in results_by_strategy.items()]
    if not rows:
        return None
    return Table(
        id="hallucination-strategies",
        title="Long form by every strategy",
        columns=make_columns("Strategy", numeric_titles=_METRIC_TITLES),
        rows=tuple(rows),
        collapsed=True,
    )


def _build_speech_row(name: str, results: Sequence[DatasetResult]) -> Row:
    num_words = sum(result.words for result in results)
    hallucination_metrics = [result.hallucination for result in results]
    return make_row(
        name,
        format_count(sum(metrics.repeated_five_grams for metrics in hallucination_metrics)),
        format_count(sum(metrics.repeated_in_reference for metrics in hallucination_metrics)),
        format_count(sum(metrics.repeated_beyond_reference for metrics in hallucination_metrics)),
        *(
            TableCell(format_number(100 * num_errors / num_words if num_words else None))
            for num_errors in (
                sum(result.insertions for result in results),
                sum(result.substitutions for result in results),
                sum(result.deletions for result in results),
            )
        ),
        TableCell(
            format_number(max(metrics.length_ratio_p95 for metrics in hallucination_metrics), 2),
            f"({format_number(max(metrics.length_ratio_p99 for metrics in hallucination_metrics), 2)})",
        ),
        format_count(sum(metrics.repetition_loops for metrics in hallucination_metrics)),
        format_count(max(metrics.longest_deletion for metrics in hallucination_metrics)),
    )


def _build_non_speech_table(view: ResultsView) -> Table | None:
    results = view.select_results("non_speech")
    if not results:
        return None
    model_names = [model.name for model in view.models if any(result.model == model.name for result in results)]
    decodings = dict.fromkeys(result.decoding for result in results)
    rows: list[Row] = []
    for decoding in decodings:
        decoding_results = [result for result in results if result.decoding == decoding]
        if len(decodings) > 1:
            unfiltered = decoding == UNFILTERED_DECODING
            filter_text = (
                "Without the hallucination filter" if unfiltered else f"With the hallucination filter ({decoding})"
            )
            rows.append(make_row(filter_text, kind="group"))
        dataset_conditions = dict.fromkeys((result.dataset, result.condition) for result in decoding_results)
        for dataset_name, condition in dataset_conditions:
            title = f"{dataset_name}, {describe_condition(condition)}" if condition else dataset_name
            rows.append(
                _build_non_speech_row(
                    title,
                    [
                        result
                        for result in decoding_results
                        if (result.dataset, result.condition) == (dataset_name, condition)
                    ],
                    model_names,
                )
            )
        if len(dataset_conditions) > 1:
            rows.append(_build_non_speech_row("All", decoding_results, model_names, kind="total"))
    return Table(
        id="hallucination-non-speech",
        title="Words heard where nobody speaks",
        columns=make_columns("Dataset", numeric_titles=("Clips", "Hours", *map(view.display_name, model_names))),
        rows=tuple(rows),
        caption="Every word here was made up; in brackets how many clips have any. Without the filter: each "
        "clip decoded greedily and believed.",
    )


def _build_non_speech_row(
    title: str, results: Sequence[DatasetResult], model_names: Sequence[str], kind: Literal["", "total"] = ""
) -> Row:
    cells = []
    for model_name in model_names:
        model_results = [result for result in results if result.model == model_name]
        num_words = sum(result.hallucination.words_on_non_speech for result in model_results)
        num_clips_with_words = sum(result.hallucination.non_speech_clips_with_words for result in model_results)
        cells.append(
            TableCell(
                format_count(num_words),
                f"({format_count(num_clips_with_words)} of {format_count(_count_clips(model_results))})",
            )
            if model_results
            else NOT_MEASURED
        )
    first_model_results = [result for result in results if result.model == results[0].model]
    hours = format_number(sum(result.hours for result in first_model_results), 2)
    return make_row(title, format_count(_count_clips(first_model_results)), hours, *cells, kind=kind)


def _count_clips(results: Sequence[DatasetResult]) -> int:
    return sum(result.hallucination.non_speech_clips or result.utterances for result in results)


def _lead(view: ResultsView) -> str:
    """Two models in words: what the main one inserts and invents, beside the teacher."""
    if view.teacher is None or view.main_model is None or view.main_model is view.teacher:
        return ""
    sentences = []
    main_rate, teacher_rate = (
        pooled_insertion_rate(view, model_name) for model_name in (view.main_model.name, view.teacher.name)
    )
    main_name, teacher_name = view.display_name(view.main_model.name), view.display_name(view.teacher.name)
    if main_rate is not None and teacher_rate is not None:
        teacher_text = f"{teacher_name} {format_number(teacher_rate, 2)}"
        sentences.append(f"{main_name} inserts {format_number(main_rate, 2)} words for 100 spoken, {teacher_text}.")
    main_hallucinated, teacher_hallucinated = (
        count_hallucinated_words(view, model_name) for model_name in (view.main_model.name, view.teacher.name)
    )
    if main_hallucinated and teacher_hallucinated:
        words_text = (
            f"{format_count(main_hallucinated[0])} words, {teacher_name} {format_count(teacher_hallucinated[0])}"
        )
        sentences.append(f"In {format_count(main_hallucinated[1])} clips without speech it hears {words_text}.")
    return " ".join(sentences)


def pooled_insertion_rate(view: ResultsView, model_name: str) -> float | None:
    """Words inserted for 100 spoken, over all datasets of the short form; None where there are none."""
    results = view.short_form_results(model_name)
    num_words = sum(result.words for result in results)
    return 100 * sum(result.insertions for result in results) / num_words if num_words else None


def count_hallucinated_words(
    view: ResultsView, model_name: str, *, hallucination_filter: bool = False
) -> tuple[int, int] | None:
    """(words heard, clips) where nobody speaks, without or with the hallucination filter; None where not measured."""
    results = [
        result
        for result in view.select_results("non_speech")
        if result.model == model_name and (result.decoding != UNFILTERED_DECODING) == hallucination_filter
    ]
    return (
        (sum(result.hallucination.words_on_non_speech for result in results), _count_clips(results))
        if results
        else None
    )
