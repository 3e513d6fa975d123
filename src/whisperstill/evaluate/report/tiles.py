"""The summary's tiles: one figure each, the teacher's figure, and the difference in words."""

from dataclasses import dataclass

from whisperstill.evaluate.report.formatting import (
    format_count,
    format_millions,
    format_number,
    format_rate,
    format_ratio,
    format_signed,
    join_names,
    pluralize,
)
from whisperstill.evaluate.report.hallucination import count_hallucinated_words, pooled_insertion_rate
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.evaluate.report.wer_comparison import (
    Badge,
    WerComparison,
    compare_short_form,
    compare_wer,
    describe_size_change,
)
from whisperstill.records.eval_results import ModelInfo


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary, the teacher's figure, and the difference in a sentence."""

    label: str
    value: str
    aside: str
    sentence: str
    badge: Badge = ""


def build_tiles(view: ResultsView, model: ModelInfo) -> list[Tile]:
    """The figures that were measured, in display order."""
    near, far = (compare_short_form(view, model, in_distribution) for in_distribution in (True, False))
    tiles = [
        _size_tile(view, model),
        _speed_tile(view, model),
        _wer_tile(view, model, "WER, in distribution" if far else "WER, short form", near),
        _wer_tile(view, model, "WER, out of distribution" if view.has_distributions else "WER, short form", far),
        _long_form_tile(view, model),
        _hallucination_tile(view, model),
        _draft_tile(view, model),
    ]
    return [tile for tile in tiles if tile]


def _size_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    if not model.parameters:
        return None
    teacher = view.teacher_of(model)
    value = f"{format_millions(model.parameters)} M"
    if teacher is None or not teacher.parameters:
        layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
        return Tile("Parameters", value, "", layers if model.decoder_layers else "")
    size_change = describe_size_change(model.parameters / teacher.parameters)
    teacher_name = view.display_name(teacher.name)
    is_equal = size_change == "as many"
    sentence = f"{size_change.capitalize()} parameters {'as' if is_equal else 'than'} {teacher_name}"
    if model.decoder_layers and model.decoder_layers != teacher.decoder_layers:
        sentence += f": {model.decoder_layers} decoder layers instead of {teacher.decoder_layers}"
    badge: Badge = "" if is_equal else "smaller" if model.parameters < teacher.parameters else "larger"
    return Tile("Parameters", value, f"{teacher_name} {format_millions(teacher.parameters)} M", f"{sentence}.", badge)


def _speed_badge(speedup: float) -> Badge:
    return "faster" if speedup >= 1.05 else "slower" if speedup < 0.95 else "no clear difference"


def _speed_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    speed, teacher = view.speed_result(model.name), view.teacher_of(model)
    if speed is None:
        return None
    ratio = view.relative_speed(model.name)
    teacher_speed = view.speed_result(teacher.name) if teacher else None
    latency = f"{format_number(speed.latency_ms, 0)} ms"
    if teacher_speed is None or ratio is None:
        return Tile("Latency", latency, "", f"One 30-second window, {speed.num_tokens} tokens, batch size 1.")
    sentence = f"A window takes {latency} instead of {format_number(teacher_speed.latency_ms, 0)} ms."
    largest_batch = max(result.batch_size for result in view.eval_results.speeds if result.model == model.name)
    batched_ratio = view.relative_speed(model.name, largest_batch)
    if largest_batch > 1 and batched_ratio is not None:
        sentence += f" At batch size {largest_batch}: {format_ratio(batched_ratio)}."
    aside = f"{view.display_name(teacher_speed.model)} 1×"
    return Tile("Speed at batch size 1", format_ratio(ratio), aside, sentence, _speed_badge(ratio))


def _wer_tile(
    view: ResultsView, model: ModelInfo, label: str, comparison: WerComparison | None, note: str = ""
) -> Tile | None:
    if comparison is None:
        return None
    value = format_rate(comparison.mean.value, comparison.mean.low, comparison.mean.high)
    teacher, difference = view.teacher_of(model), comparison.difference
    amount_text = f"{format_count(comparison.words)} {comparison.unit}"
    if teacher is None or comparison.teacher_wer is None:
        return Tile(label, f"{value.text} %", value.aside, f"Measured on {amount_text}.{note}")
    name = view.display_name(teacher.name)
    mean_change = comparison.mean.value - comparison.teacher_wer
    change, interval_text = mean_change, "not paired"
    if difference:
        change = difference.value
        interval_text = f"95 %: {format_signed(difference.low)} to {format_signed(difference.high)}"
    sentence = f"{format_number(abs(change))} points {'more' if change > 0 else 'fewer'} than {name} ({interval_text})"
    if comparison.badge == "no clear difference":
        change_text = f"{format_signed(mean_change)}; {interval_text}"
        sentence = f"No clear difference to {name} on {amount_text} ({change_text})"
    aside = f"{value.aside} · {name} {format_number(comparison.teacher_wer)}".removeprefix(" · ")
    return Tile(label, f"{value.text} %", aside, f"{sentence}.{note}", comparison.badge)


def _long_form_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    datasets, teacher = view.out_of_distribution_long_form_datasets, view.teacher_of(model)
    best, teacher_best = view.best_strategy(model.name, datasets), None
    if best is None:
        return None
    note = f" Strategy: {best[0]}."
    if teacher and (teacher_best := view.best_strategy(teacher.name, datasets)) and best[0] != teacher_best[0]:
        note = f" Strategy: {best[0]}; {view.display_name(teacher.name)}: {teacher_best[0]}."
    comparison = compare_wer(view, best[1], teacher_best[1] if teacher_best else [])
    return _wer_tile(view, model, "WER, long form", comparison, note)


def _hallucination_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    teacher = view.teacher_of(model)
    insertion_rate, hallucinated = pooled_insertion_rate(view, model.name), count_hallucinated_words(view, model.name)
    teacher_name = view.display_name(teacher.name) if teacher else ""
    teacher_insertion_rate = pooled_insertion_rate(view, teacher.name) if teacher else None
    phrases = []
    if insertion_rate is not None:
        phrases.append(pluralize(_count_loops(view, model), "repetition loop"))
        if teacher and teacher_insertion_rate is not None:
            phrases[-1] += f" ({teacher_name} {format_count(_count_loops(view, teacher))})"
    if hallucinated is not None:
        phrases.append(f"{pluralize(hallucinated[0], 'word')} in {pluralize(hallucinated[1], 'clip')} without speech")
        if filtered_hallucinated := count_hallucinated_words(view, model.name, hallucination_filter=True):
            phrases[-1] += f", with the hallucination filter {format_count(filtered_hallucinated[0])}"
        if teacher and (teacher_hallucinated := count_hallucinated_words(view, teacher.name)):
            phrases[-1] += f" ({teacher_name} {format_count(teacher_hallucinated[0])})"
    sentence = f"{'; '.join(phrases)}."
    if insertion_rate is None:
        aside = "words on audio without speech"
        return Tile("Hallucination", format_count(hallucinated[0]), aside, sentence) if hallucinated else None
    aside = f"{teacher_name} {format_number(teacher_insertion_rate, 2)}" if teacher_insertion_rate is not None else ""
    return Tile("Insertions per 100 words", format_number(insertion_rate, 2), aside, sentence)


def _count_loops(view: ResultsView, model: ModelInfo) -> int:
    return sum(result.hallucination.repetition_loops for result in view.short_form_results(model.name))


def _draft_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    speculative = view.eval_results.speculative
    results = [result for result in speculative if result.draft == model.name and result.speculative_seconds]
    if not results:
        return None
    first, *others = sorted(results, key=lambda result: result.batch_size)
    name = view.display_name(first.model)
    speedups = [f"{format_number(result.speedup, 2)}× at batch size {result.batch_size}" for result in others]
    others_text = f"; {join_names(speedups)}" if speedups else ""
    is_exact = all(result.identical == result.utterances for result in results)
    exact_text = "The text is identical." if is_exact else "The text is not always identical."
    sentence = f"Speculative decoding of {name} at batch size {first.batch_size}{others_text}. {exact_text}"
    value = f"{format_number(first.speedup, 2)}×"
    return Tile("As a draft model", value, f"{name} alone 1×", sentence, _speed_badge(first.speedup))
