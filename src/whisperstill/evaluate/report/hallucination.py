"""Hallucination: repetition and insertions (paper, section 5.3), deletions, and words on audio without speech."""

from collections.abc import Sequence

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.accuracy import TOC_HEADING, WerRow, group_by, wer_rows
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Cell, Columns, Section, Table
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

UNFILTERED_DECODING = "short"
"""`DatasetResult.decoding` of clips decoded without the hallucination filter."""

_NamedResults = tuple[str, Sequence[DatasetResult]]
"""Model or strategy, and its results."""

_METRIC_COLUMNS: Columns[_NamedResults] = [
    ("5-Dup", lambda row: fmt.count(sum(r.hallucination.repeated_five_grams for r in row[1]))),
    ("in references", lambda row: fmt.count(sum(r.hallucination.repeated_in_reference for r in row[1]))),
    ("beyond references", lambda row: fmt.count(sum(r.hallucination.repeated_beyond_reference for r in row[1]))),
    ("Insertions %", lambda row: fmt.number(_per_100_words(row[1], sum(r.insertions for r in row[1])))),
    ("Substitutions %", lambda row: fmt.number(_per_100_words(row[1], sum(r.substitutions for r in row[1])))),
    ("Deletions %", lambda row: fmt.number(_per_100_words(row[1], sum(r.deletions for r in row[1])))),
    ("Length ratio", lambda row: _length_ratio_cell(row[1])),
    ("Loops", lambda row: fmt.count(sum(r.hallucination.repetition_loops for r in row[1]))),
    ("Longest deletion", lambda row: fmt.count(max(r.hallucination.longest_deletion for r in row[1]))),
]


def _length_ratio_cell(results: Sequence[DatasetResult]) -> Cell:
    p95, p99 = (max(getattr(r.hallucination, f"length_ratio_{name}") for r in results) for name in ("p95", "p99"))
    return Cell(fmt.number(p95, 2), f"({fmt.number(p99, 2)})")


def _per_100_words(results: Sequence[DatasetResult], count: int) -> float | None:
    num_words = sum(result.words for result in results)
    return 100 * count / num_words if num_words else None


def build_hallucination_section(view: ResultsView) -> Section:
    """Repetition, insertions, deletions and loops on speech; words on audio without speech."""
    names = {view.display_name(model.name): model.name for model in view.models}
    forms = {
        "Short form": {title: view.short_form_results(name) for title, name in names.items()},
        "Long form, best strategy of each model": {t: view.best_strategy(name)[1] for t, name in names.items()},
    }
    speech = Table.build(
        "hallucination-speech",
        "On speech",
        [("Model", lambda row: row[0]), *_METRIC_COLUMNS],
        {form: [row for row in rows.items() if row[1]] for form, rows in forms.items()},
        "Pooled over datasets. 5-Dup: repeated 5-grams in the output; then the same count in the references "
        "(repetition by the speakers), and repeats beyond those. Insertions, substitutions and deletions: per 100 "
        "reference words. Length ratio: words in the output over reference words, 95th (99th) percentile over "
        "utterances, of the dataset with the largest value. Loops: utterances with a repetition loop. Longest "
        "deletion: most consecutive reference words missing from an output.",
    )
    by_strategy = {title: view.results_by_strategy(name) for title, name in names.items()}
    strategies = Table.build(
        "hallucination-strategies",
        "Long form, all strategies",
        [("Strategy", lambda row: row[0]), *_METRIC_COLUMNS],
        {title: results.items() for title, results in by_strategy.items() if len(results) > 1},
        collapsed=True,
    )
    tables = [speech, _build_non_speech_table(view), strategies]
    return Section("hallucination", "Hallucination", TOC_HEADING, "", tables)


def _build_non_speech_table(view: ResultsView) -> Table:
    results = view.select_results("non_speech")

    def decoding_title(result: DatasetResult) -> str:
        if result.decoding == UNFILTERED_DECODING:
            return "Without the hallucination filter"
        return f"With the hallucination filter ({result.decoding})"

    def dataset_title(result: DatasetResult) -> str:
        return result.dataset + (result.condition and f", {fmt.condition(result.condition)}")

    def words_cell(model_name: str, row: WerRow) -> Cell:
        own = [result for result in row[1] if result.model == model_name]
        num_words = sum(result.hallucination.words_on_non_speech for result in own)
        num_clips = sum(result.hallucination.non_speech_clips_with_words for result in own)
        clips_text = f"({fmt.count(num_clips)} of {fmt.count(_count_clips(own))})"
        return Cell(fmt.count(num_words), clips_text) if own else NOT_MEASURED

    def of_one_model(row: WerRow) -> list[DatasetResult]:
        return [result for result in row[1] if result.model == row[1][0].model]

    columns: Columns[WerRow] = [
        ("Dataset", lambda row: row[0]),
        ("Clips", lambda row: fmt.count(_count_clips(of_one_model(row)))),
        ("Hours", lambda row: fmt.number(sum(result.hours for result in of_one_model(row)), 2)),
        *view.model_columns(view.measured_models(results), words_cell),
    ]
    groups = {
        title: wer_rows(group_by(members, dataset_title), "All")
        for title, members in group_by(results, decoding_title).items()
    }
    caption = (
        "Every word is a hallucination; in brackets the number of clips with any. Without the filter, each clip is "
        "decoded greedily and its text is kept."
    )
    return Table.build("hallucination-non-speech", "Words on audio without speech", columns, groups, caption)


def _count_clips(results: Sequence[DatasetResult]) -> int:
    return sum(result.hallucination.non_speech_clips or result.utterances for result in results)


def pooled_insertion_rate(view: ResultsView, model_name: str) -> float | None:
    """Insertions per 100 reference words over all short-form datasets; None without reference words."""
    results = view.short_form_results(model_name)
    return _per_100_words(results, sum(result.insertions for result in results))


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
