"""Hallucination: repetition and insertions (paper, section 5.3), deletions, and words on audio without speech."""

from collections.abc import Mapping, Sequence
from typing import Literal

from whisperstill.evaluate.report.accuracy import TOC_HEADING
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Row, Section, Table, TableCell, make_columns, make_row
from whisperstill.evaluate.report.formatting import describe_condition, format_count, format_number
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

_METRIC_TITLES = (
    *("5-Dup", "in references", "beyond references", "Insertions %", "Substitutions %", "Deletions %"),
    *("Length ratio", "Loops", "Longest deletion"),
)

UNFILTERED_DECODING = "short"
"""`DatasetResult.decoding` of clips decoded without the hallucination filter."""


def build_hallucination_section(view: ResultsView) -> Section | None:
    """Repetition, insertions, deletions and loops on speech; words on audio without speech."""
    built_tables = (_build_speech_table(view), _build_non_speech_table(view), _build_strategy_table(view))
    tables = [table for table in built_tables if table]
    if not tables:
        return None
    return Section("hallucination", "Hallucination", TOC_HEADING, _lead(view), tables)


def _build_speech_table(view: ResultsView) -> Table | None:
    rows_by_form: dict[str, list[Row]] = {"Short form": [], "Long form, best strategy of each model": []}
    for model in view.models:
        _, long_form_results = view.best_strategy(model.name) or ("", [])
        forms = (view.short_form_results(model.name), long_form_results)
        for rows, results in zip(rows_by_form.values(), forms, strict=True):
            rows += [_build_speech_row(view.display_name(model.name), results)] if results else []
    rows = _group_rows({title: rows for title, rows in rows_by_form.items() if rows})
    if not rows:
        return None
    return Table(
        id="hallucination-speech",
        title="On speech",
        columns=make_columns("Model", *_METRIC_TITLES),
        rows=rows,
        caption="Pooled over datasets. 5-Dup: repeated 5-grams in the output; then the same count in the references "
        "(repetition by the speakers), and repeats beyond those. Insertions, substitutions and deletions: per 100 "
        "reference words. Length ratio: words in the output over reference words, 95th (99th) percentile over "
        "utterances, of the dataset with the largest value. Loops: utterances with a repetition loop. Longest "
        "deletion: most consecutive reference words missing from an output.",
    )


def _group_rows(rows_by_title: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows under the titles of their groups; a single group has no title."""
    rows: list[Row] = []
    for title, group in rows_by_title.items():
        rows += [make_row(title, kind="group"), *group] if len(rows_by_title) > 1 else group
    return rows


def _build_strategy_table(view: ResultsView) -> Table | None:
    """Long recordings by strategy, for models with more than one."""
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
        title="Long form, all strategies",
        columns=make_columns("Strategy", *_METRIC_TITLES),
        rows=rows,
        collapsed=True,
    )


def _build_speech_row(name: str, results: Sequence[DatasetResult]) -> Row:
    num_words = sum(result.words for result in results)
    metrics = [result.hallucination for result in results]
    errors = zip(*((result.insertions, result.substitutions, result.deletions) for result in results), strict=True)
    return make_row(
        name,
        format_count(sum(m.repeated_five_grams for m in metrics)),
        format_count(sum(m.repeated_in_reference for m in metrics)),
        format_count(sum(m.repeated_beyond_reference for m in metrics)),
        *(format_number(100 * sum(counts) / num_words if num_words else None) for counts in errors),
        TableCell(
            format_number(max(m.length_ratio_p95 for m in metrics), 2),
            f"({format_number(max(m.length_ratio_p99 for m in metrics), 2)})",
        ),
        format_count(sum(m.repetition_loops for m in metrics)),
        format_count(max(m.longest_deletion for m in metrics)),
    )


def _build_non_speech_table(view: ResultsView) -> Table | None:
    results = view.select_results("non_speech")
    if not results:
        return None
    names = view.measured_models(results)
    rows_by_decoding: dict[str, list[Row]] = {}
    for decoding in dict.fromkeys(result.decoding for result in results):
        decoding_results = [result for result in results if result.decoding == decoding]
        groups: dict[str, list[DatasetResult]] = {}
        for result in decoding_results:
            condition_text = f", {describe_condition(result.condition)}" if result.condition else ""
            groups.setdefault(f"{result.dataset}{condition_text}", []).append(result)
        rows = [_build_non_speech_row(title, group, names) for title, group in groups.items()]
        if len(groups) > 1:
            rows.append(_build_non_speech_row("All", decoding_results, names, kind="total"))
        is_filtered = decoding != UNFILTERED_DECODING
        title = f"With the hallucination filter ({decoding})" if is_filtered else "Without the hallucination filter"
        rows_by_decoding[title] = rows
    return Table(
        id="hallucination-non-speech",
        title="Words on audio without speech",
        columns=make_columns("Dataset", "Clips", "Hours", *map(view.display_name, names)),
        rows=_group_rows(rows_by_decoding),
        caption="Every word is a hallucination; in brackets the number of clips with any. Without the filter, each "
        "clip is decoded greedily and its text is kept.",
    )


def _build_non_speech_row(
    title: str, results: Sequence[DatasetResult], model_names: Sequence[str], kind: Literal["", "total"] = ""
) -> Row:
    cells = []
    for model_name in model_names:
        model_results = [result for result in results if result.model == model_name]
        num_words = sum(result.hallucination.words_on_non_speech for result in model_results)
        num_clips = sum(result.hallucination.non_speech_clips_with_words for result in model_results)
        clips_text = f"({format_count(num_clips)} of {format_count(_count_clips(model_results))})"
        cells.append(TableCell(format_count(num_words), clips_text) if model_results else NOT_MEASURED)
    first_model_results = [result for result in results if result.model == results[0].model]
    hours = format_number(sum(result.hours for result in first_model_results), 2)
    return make_row(title, format_count(_count_clips(first_model_results)), hours, *cells, kind=kind)


def _count_clips(results: Sequence[DatasetResult]) -> int:
    return sum(result.hallucination.non_speech_clips or result.utterances for result in results)


def _lead(view: ResultsView) -> str:
    """Insertions and words on non-speech audio of the main model and the teacher."""
    if view.main_pair is None:
        return ""
    name, teacher_name = (view.display_name(model.name) for model in view.main_pair)
    rate, teacher_rate = (pooled_insertion_rate(view, model.name) for model in view.main_pair)
    words, teacher_words = (count_hallucinated_words(view, model.name) for model in view.main_pair)
    sentences = []
    if rate is not None and teacher_rate is not None:
        rates_text = f"{name} {format_number(rate, 2)}, {teacher_name} {format_number(teacher_rate, 2)}"
        sentences.append(f"Insertions per 100 reference words: {rates_text}.")
    if words and teacher_words:
        words_text = f"{name} {format_count(words[0])}, {teacher_name} {format_count(teacher_words[0])}"
        sentences.append(f"Words in {format_count(words[1])} clips without speech: {words_text}.")
    return " ".join(sentences)


def pooled_insertion_rate(view: ResultsView, model_name: str) -> float | None:
    """Insertions per 100 reference words over all short-form datasets; None without reference words."""
    results = view.short_form_results(model_name)
    num_words = sum(result.words for result in results)
    return 100 * sum(result.insertions for result in results) / num_words if num_words else None


def count_hallucinated_words(
    view: ResultsView, model_name: str, *, hallucination_filter: bool = False
) -> tuple[int, int] | None:
    """(words, clips) on audio without speech, with or without the hallucination filter; None if not measured."""
    results = [
        result
        for result in view.select_results("non_speech")
        if result.model == model_name and (result.decoding != UNFILTERED_DECODING) == hallucination_filter
    ]
    if not results:
        return None
    return sum(result.hallucination.words_on_non_speech for result in results), _count_clips(results)
