"""The report on one screen: what a student costs and gives against its teacher, in figures and in plain words.

A difference is called one only where its interval leaves out zero; a student that is worse is called worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whisperstill.evaluate.report.hallucination import count_hallucinated_words, pooled_insertion_rate
from whisperstill.evaluate.report.numbers import (
    format_count,
    format_millions,
    format_number,
    format_rate,
    format_ratio,
    format_signed,
    join_names,
    pluralize,
)
from whisperstill.evaluate.report.view import ResultsView, mean_paired_difference, mean_wer
from whisperstill.records.eval_results import DatasetResult, ModelInfo

Badge = Literal["", "better", "worse", "no clear difference", "smaller", "larger", "faster", "slower"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary, with what the teacher has, and what that means."""

    label: str
    value: str
    aside: str
    sentence: str
    badge: Badge = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is said first."""

    sentence: str
    tiles: tuple[Tile, ...]
    other_sentences: tuple[str, ...] = ()
    """A sentence for every model but the first."""


@dataclass(frozen=True, slots=True)
class _WerComparison:
    """Mean error rates of a model and of its teacher over the datasets that both were measured on."""

    wer: float
    low: float
    high: float
    teacher_wer: float | None
    paired_difference: tuple[float, float, float] | None
    words: int
    unit: str
    """`words`, `characters`, or both."""
    num_worse: int
    """Datasets on which it is surely worse than the teacher, each on its own."""
    num_better: int
    num_datasets: int

    @property
    def badge(self) -> Badge:
        if self.teacher_wer is None:
            return ""
        if self.paired_difference is None:
            return "no clear difference" if self.low <= self.teacher_wer <= self.high else self._badge_by_sign()
        return (
            "no clear difference"
            if self.paired_difference[1] <= 0 <= self.paired_difference[2]
            else self._badge_by_sign()
        )

    def _badge_by_sign(self) -> Badge:
        return "worse" if self.teacher_wer is not None and self.wer > self.teacher_wer else "better"


def build_summary(view: ResultsView) -> Summary | None:
    """The summary of the first student; None where no model was measured."""
    if view.main_model is None:
        return None
    other_sentences = [
        _summary_sentence(view, model)
        for model in view.compared_models
        if model is not view.main_model and view.teacher
    ]
    return Summary(
        _summary_sentence(view, view.main_model), tuple(_build_tiles(view, view.main_model)), tuple(other_sentences)
    )


def _teacher_of(view: ResultsView, model: ModelInfo) -> ModelInfo | None:
    return view.teacher if view.teacher is not model else None


def _compare_wer(
    view: ResultsView, results: Sequence[DatasetResult], teacher_results: Sequence[DatasetResult]
) -> _WerComparison | None:
    teacher_by_dataset = {result.dataset: result for result in teacher_results}
    if teacher_by_dataset:
        results = [result for result in results if result.dataset in teacher_by_dataset]
    mean_rate = mean_wer(results)
    if mean_rate is None:
        return None
    teacher_mean = mean_wer([teacher_by_dataset[result.dataset] for result in results]) if teacher_by_dataset else None
    same_decoding = (
        all(teacher_by_dataset[result.dataset].decoding == result.decoding for result in results)
        if teacher_by_dataset
        else False
    )
    mean_difference = (
        mean_paired_difference(results)
        if same_decoding and all(result.difference_to_teacher for result in results)
        else None
    )
    return _WerComparison(
        wer=mean_rate.value,
        low=mean_rate.low,
        high=mean_rate.high,
        teacher_wer=teacher_mean.value if teacher_mean else None,
        paired_difference=(mean_difference.value, mean_difference.low, mean_difference.high)
        if mean_difference
        else None,
        words=sum(result.words for result in results),
        unit=view.error_units([result.dataset for result in results]),
        num_worse=sum(
            result.difference_to_teacher is not None and result.difference_to_teacher.low > 0 for result in results
        ),
        num_better=sum(
            result.difference_to_teacher is not None and result.difference_to_teacher.high < 0 for result in results
        ),
        num_datasets=len(results),
    )


def _compare_short_form(view: ResultsView, model: ModelInfo, in_distribution: bool | None) -> _WerComparison | None:
    teacher = _teacher_of(view, model)
    teacher_results = view.short_form_results(teacher.name, in_distribution=in_distribution) if teacher else []
    return _compare_wer(view, view.short_form_results(model.name, in_distribution=in_distribution), teacher_results)


def _summary_sentence(view: ResultsView, model: ModelInfo) -> str:
    name, teacher = view.display_name(model.name), _teacher_of(view, model)
    out_of_distribution = _compare_short_form(view, model, in_distribution=False)
    comparison, datasets_text = (
        (out_of_distribution, " out of distribution")
        if out_of_distribution
        else (_compare_short_form(view, model, None), "")
    )
    if teacher is None:
        errors_text = (
            f"{name} makes {format_number(comparison.wer)} errors in 100 {comparison.unit}{datasets_text}"
            if comparison
            else f"{name} was measured"
        )
        if model is view.teacher:
            return f"{errors_text}. Nothing was measured beside it, so nothing here says what a student loses or gains."
        return f"{errors_text}. No teacher was measured beside it, so nothing here says what it lost or gained."
    teacher_name = view.display_name(teacher.name)
    speed = view.relative_speed(model.name)
    gains = [f"is {format_number(speed, 1)} times as fast as {teacher_name}"] if speed else []
    if model.parameters and teacher.parameters:
        gains.append(f"has {_describe_size_change(model.parameters / teacher.parameters)} parameters")
    opening = f"{name} {' and '.join(gains)}, and" if gains else name
    if comparison is None or comparison.teacher_wer is None:
        return f"{opening.removesuffix(', and')}." if gains else f"{name} stands beside {teacher_name}."
    errors_text = f"{format_number(comparison.wer)} errors in 100 {comparison.unit}{datasets_text}"
    rates_text = f"{errors_text}, {teacher_name} {format_number(comparison.teacher_wer)}"
    if comparison.badge == "no clear difference" and (comparison.num_worse or comparison.num_better):
        split_text = join_names(
            [
                f"{outcome} on {num_datasets}"
                for outcome, num_datasets in (("worse", comparison.num_worse), ("better", comparison.num_better))
                if num_datasets
            ]
        )
        datasets_count = pluralize(comparison.num_datasets, "dataset")
        return f"{opening} hears no differently in the mean, but {split_text} of {datasets_count}: {rates_text}."
    if comparison.badge == "no clear difference":
        return f"{opening} hears as well as these data can tell: {rates_text}."
    if comparison.badge == "better":
        return f"{opening} hears better: {rates_text}."
    wer_ratio = comparison.wer / comparison.teacher_wer if comparison.teacher_wer else float("inf")
    degree = "far worse" if wer_ratio >= 2 else "worse" if wer_ratio >= 1.1 else "slightly worse"
    return (
        f"{opening.removesuffix(' and')} but hears {degree}: {rates_text}."
        if gains
        else f"{opening} hears {degree}: {rates_text}."
    )


def _describe_size_change(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "as many"
    change = f"{format_number(100 * abs(1 - ratio), 0)} %"
    return f"{change} fewer" if ratio < 1 else f"{change} more"


def _build_tiles(view: ResultsView, model: ModelInfo) -> list[Tile]:
    has_out_of_distribution = bool(_compare_short_form(view, model, in_distribution=False))
    near_label = "WER, in distribution" if has_out_of_distribution else "WER, short form"
    tiles = [
        _size_tile(view, model),
        _speed_tile(view, model),
        _wer_tile(view, model, near_label, _compare_short_form(view, model, in_distribution=True)),
        _wer_tile(view, model, "WER, out of distribution", _compare_short_form(view, model, in_distribution=False)),
        _long_form_tile(view, model),
        _hallucination_tile(view, model),
        _draft_tile(view, model),
    ]
    return [tile for tile in tiles if tile]


def _size_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    if not model.parameters:
        return None
    teacher = _teacher_of(view, model)
    value = f"{format_millions(model.parameters)} M"
    if teacher is None or not teacher.parameters:
        layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
        return Tile("Parameters", value, "", layers if model.decoder_layers else "")
    ratio = model.parameters / teacher.parameters
    sentence = f"{_describe_size_change(ratio).capitalize()} parameters than {view.display_name(teacher.name)}"
    if abs(ratio - 1) < 0.005:
        sentence = f"As many parameters as {view.display_name(teacher.name)}"
    if model.decoder_layers and model.decoder_layers != teacher.decoder_layers:
        sentence += f": {model.decoder_layers} decoder layers instead of {teacher.decoder_layers}"
    badge: Badge = "" if abs(ratio - 1) < 0.005 else "smaller" if ratio < 1 else "larger"
    aside = f"{view.display_name(teacher.name)} {format_millions(teacher.parameters)} M"
    return Tile("Parameters", value, aside, f"{sentence}.", badge)


def _speed_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    main_speed, teacher = view.speed_result(model.name), _teacher_of(view, model)
    if main_speed is None:
        return None
    ratio = view.relative_speed(model.name) if teacher else None
    teacher_speed = view.speed_result(teacher.name) if teacher else None
    if teacher is None or teacher_speed is None or ratio is None:
        latency_text = f"From a 30-second window to its text of {main_speed.num_tokens} tokens, at batch 1."
        return Tile("Latency", f"{format_number(main_speed.latency_ms, 0)} ms", "", latency_text)
    teacher_name = view.display_name(teacher.name)
    latencies = [format_number(latency_ms, 0) for latency_ms in (main_speed.latency_ms, teacher_speed.latency_ms)]
    sentence = f"A window's text takes {latencies[0]} ms instead of {latencies[1]}."
    batch_sizes = sorted(
        {speed_result.batch_size for speed_result in view.eval_results.speeds if speed_result.model == model.name}
    )
    largest_batch_speed, teacher_largest_batch_speed = (
        view.speed_result(model.name, batch_sizes[-1]),
        view.speed_result(teacher.name, batch_sizes[-1]),
    )
    if len(batch_sizes) > 1 and largest_batch_speed and teacher_largest_batch_speed and largest_batch_speed.latency_ms:
        largest_batch_ratio = teacher_largest_batch_speed.latency_ms / largest_batch_speed.latency_ms
        sentence += f" At batch {batch_sizes[-1]} it is {format_ratio(largest_batch_ratio)}."
    badge: Badge = "faster" if ratio >= 1.05 else "slower" if ratio < 0.95 else "no clear difference"
    return Tile("Speed at batch 1", format_ratio(ratio), f"{teacher_name} 1×", sentence, badge)


def _wer_tile(
    view: ResultsView, model: ModelInfo, label: str, comparison: _WerComparison | None, note: str = ""
) -> Tile | None:
    if comparison is None:
        return None
    value = format_rate(comparison.wer, comparison.low, comparison.high)
    teacher = _teacher_of(view, model)
    if teacher is None or comparison.teacher_wer is None:
        return Tile(
            label, f"{value.text} %", value.aside, f"Of {format_count(comparison.words)} {comparison.unit}.{note}"
        )
    teacher_name = view.display_name(teacher.name)
    change = comparison.wer - comparison.teacher_wer
    difference_text = f"{format_number(abs(change))} points {'more' if change > 0 else 'fewer'}"
    if comparison.paired_difference:
        paired_estimate, low, high = comparison.paired_difference
        interval_text = f"95 %: {format_signed(low)} to {format_signed(high)}"
        difference_text = f"{format_number(abs(paired_estimate))} points {'more' if paired_estimate > 0 else 'fewer'}"
    else:
        interval_text = "not paired"
    sentence = f"{difference_text} than {teacher_name} ({interval_text})"
    if comparison.badge == "no clear difference":
        sentence = (
            f"No difference to {teacher_name} that {format_count(comparison.words)} {comparison.unit} can show "
            f"({format_signed(change)}; {interval_text})"
        )
    aside = f"{value.aside} · {teacher_name} {format_number(comparison.teacher_wer)}".removeprefix(" · ")
    return Tile(label, f"{value.text} %", aside, f"{sentence}.{note}", comparison.badge)


def _long_form_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    datasets = view.out_of_distribution_long_form_datasets
    best_strategy, teacher = view.best_strategy(model.name, datasets), _teacher_of(view, model)
    teacher_best_strategy = view.best_strategy(teacher.name, datasets) if teacher else None
    if best_strategy is None:
        return None
    note = f" By {best_strategy[0]}."
    if teacher_best_strategy and teacher:
        same_strategy = best_strategy[0] == teacher_best_strategy[0]
        note = (
            f" Both by {best_strategy[0]}."
            if same_strategy
            else f" By {best_strategy[0]}; {view.display_name(teacher.name)} by {teacher_best_strategy[0]}."
        )
    return _wer_tile(
        view,
        model,
        "WER, long form",
        _compare_wer(view, best_strategy[1], teacher_best_strategy[1] if teacher_best_strategy else []),
        note,
    )


def _hallucination_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    teacher = _teacher_of(view, model)
    insertion_rate, hallucinated = pooled_insertion_rate(view, model.name), count_hallucinated_words(view, model.name)
    if insertion_rate is None and hallucinated is None:
        return None
    teacher_name = view.display_name(teacher.name) if teacher else ""
    teacher_insertion_rate = pooled_insertion_rate(view, teacher.name) if teacher else None
    phrases = []
    if insertion_rate is not None:
        num_loops = sum(result.hallucination.repetition_loops for result in view.short_form_results(model.name))
        phrases.append(pluralize(num_loops, "repetition loop"))
        if teacher and teacher_insertion_rate is not None:
            teacher_loops = sum(
                result.hallucination.repetition_loops for result in view.short_form_results(teacher.name)
            )
            phrases[-1] += f" ({teacher_name} {format_count(teacher_loops)})"
    if hallucinated is not None:
        phrases.append(f"{pluralize(hallucinated[0], 'word')} in {pluralize(hallucinated[1], 'clip')} without speech")
        if filtered_hallucinated := count_hallucinated_words(view, model.name, hallucination_filter=True):
            phrases[-1] += f", with the hallucination filter {format_count(filtered_hallucinated[0])}"
        if teacher and (teacher_hallucinated := count_hallucinated_words(view, teacher.name)):
            phrases[-1] += f" ({teacher_name} {format_count(teacher_hallucinated[0])})"
    sentence = f"{'; '.join(phrases)}."
    if insertion_rate is None and hallucinated is not None:
        return Tile("Hallucination", format_count(hallucinated[0]), "words on non-speech", sentence)
    aside = f"{teacher_name} {format_number(teacher_insertion_rate, 2)}" if teacher_insertion_rate is not None else ""
    return Tile("Words made up for 100 said", format_number(insertion_rate, 2), aside, sentence)


def _draft_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    speculative_results = sorted(
        (
            speculative_result
            for speculative_result in view.eval_results.speculative
            if speculative_result.draft == model.name
        ),
        key=lambda speculative_result: speculative_result.batch_size,
    )
    speculative_results = [
        speculative_result for speculative_result in speculative_results if speculative_result.speculative_seconds
    ]
    if not speculative_results:
        return None
    first_result, other_results = speculative_results[0], speculative_results[1:]
    other_text = join_names(
        [
            f"{format_number(speculative_result.speedup, 2)}× at batch {speculative_result.batch_size}"
            for speculative_result in other_results
        ]
    )
    other_text = f"; {other_text}" if other_text else ""
    first_model = view.display_name(first_result.model)
    sentence = f"{first_model} with it as a draft, at batch {first_result.batch_size}{other_text}."
    is_exact = all(
        speculative_result.identical == speculative_result.utterances for speculative_result in speculative_results
    )
    sentence += " Same text." if is_exact else " The text is not always the same."
    badge: Badge = (
        "faster" if first_result.speedup >= 1.05 else "slower" if first_result.speedup < 0.95 else "no clear difference"
    )
    return Tile(
        "As a draft",
        f"{format_number(first_result.speedup, 2)}×",
        f"{view.display_name(first_result.model)} alone 1×",
        sentence,
        badge,
    )
