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
    teacher_of,
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


def build_tiles(view: ResultsView, model: ModelInfo) -> tuple[Tile, ...]:
    """The figures that were measured, in display order."""
    has_out_of_distribution = bool(compare_short_form(view, model, in_distribution=False))
    near_label = "WER, in distribution" if has_out_of_distribution else "WER, short form"
    tiles = [
        _size_tile(view, model),
        _speed_tile(view, model),
        _wer_tile(view, model, near_label, compare_short_form(view, model, in_distribution=True)),
        _wer_tile(view, model, "WER, out of distribution", compare_short_form(view, model, in_distribution=False)),
        _long_form_tile(view, model),
        _hallucination_tile(view, model),
        _draft_tile(view, model),
    ]
    return tuple(tile for tile in tiles if tile)


def _size_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    if not model.parameters:
        return None
    teacher = teacher_of(view, model)
    value = f"{format_millions(model.parameters)} M"
    if teacher is None or not teacher.parameters:
        layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
        return Tile("Parameters", value, "", layers if model.decoder_layers else "")
    ratio = model.parameters / teacher.parameters
    sentence = f"{describe_size_change(ratio).capitalize()} parameters than {view.display_name(teacher.name)}"
    if abs(ratio - 1) < 0.005:
        sentence = f"As many parameters as {view.display_name(teacher.name)}"
    if model.decoder_layers and model.decoder_layers != teacher.decoder_layers:
        sentence += f": {model.decoder_layers} decoder layers instead of {teacher.decoder_layers}"
    badge: Badge = "" if abs(ratio - 1) < 0.005 else "smaller" if ratio < 1 else "larger"
    aside = f"{view.display_name(teacher.name)} {format_millions(teacher.parameters)} M"
    return Tile("Parameters", value, aside, f"{sentence}.", badge)


def _speed_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    main_speed, teacher = view.speed_result(model.name), teacher_of(view, model)
    if main_speed is None:
        return None
    ratio = view.relative_speed(model.name) if teacher else None
    teacher_speed = view.speed_result(teacher.name) if teacher else None
    if teacher is None or teacher_speed is None or ratio is None:
        latency_text = f"One 30-second window, {main_speed.num_tokens} tokens, batch size 1."
        return Tile("Latency", f"{format_number(main_speed.latency_ms, 0)} ms", "", latency_text)
    teacher_name = view.display_name(teacher.name)
    latencies = [format_number(latency_ms, 0) for latency_ms in (main_speed.latency_ms, teacher_speed.latency_ms)]
    sentence = f"A window takes {latencies[0]} ms instead of {latencies[1]} ms."
    batch_sizes = sorted(
        {speed_result.batch_size for speed_result in view.eval_results.speeds if speed_result.model == model.name}
    )
    batched = view.speed_result(model.name, batch_sizes[-1])
    teacher_batched = view.speed_result(teacher.name, batch_sizes[-1])
    if len(batch_sizes) > 1 and batched and teacher_batched and batched.latency_ms:
        batched_ratio = teacher_batched.latency_ms / batched.latency_ms
        sentence += f" At batch size {batch_sizes[-1]}: {format_ratio(batched_ratio)}."
    badge: Badge = "faster" if ratio >= 1.05 else "slower" if ratio < 0.95 else "no clear difference"
    return Tile("Speed at batch size 1", format_ratio(ratio), f"{teacher_name} 1×", sentence, badge)


def _wer_tile(
    view: ResultsView, model: ModelInfo, label: str, comparison: WerComparison | None, note: str = ""
) -> Tile | None:
    if comparison is None:
        return None
    value = format_rate(comparison.mean.value, comparison.mean.low, comparison.mean.high)
    teacher = teacher_of(view, model)
    amount_text = f"{format_count(comparison.words)} {comparison.unit}"
    if teacher is None or comparison.teacher_wer is None:
        return Tile(label, f"{value.text} %", value.aside, f"Measured on {amount_text}.{note}")
    teacher_name = view.display_name(teacher.name)
    mean_change = comparison.mean.value - comparison.teacher_wer
    change, interval_text = mean_change, "not paired"
    if comparison.difference:
        change = comparison.difference.value
        low, high = format_signed(comparison.difference.low), format_signed(comparison.difference.high)
        interval_text = f"95 %: {low} to {high}"
    sentence = (
        f"{format_number(abs(change))} points {'more' if change > 0 else 'fewer'} than {teacher_name} ({interval_text})"
    )
    if comparison.badge == "no clear difference":
        sentence = (
            f"No clear difference to {teacher_name} on {amount_text} ({format_signed(mean_change)}; {interval_text})"
        )
    aside = f"{value.aside} · {teacher_name} {format_number(comparison.teacher_wer)}".removeprefix(" · ")
    return Tile(label, f"{value.text} %", aside, f"{sentence}.{note}", comparison.badge)


def _long_form_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    datasets = view.out_of_distribution_long_form_datasets
    best_strategy, teacher = view.best_strategy(model.name, datasets), teacher_of(view, model)
    teacher_best_strategy = view.best_strategy(teacher.name, datasets) if teacher else None
    if best_strategy is None:
        return None
    note = f" Strategy: {best_strategy[0]}."
    if teacher_best_strategy and teacher and best_strategy[0] != teacher_best_strategy[0]:
        note = f" Strategy: {best_strategy[0]}; {view.display_name(teacher.name)}: {teacher_best_strategy[0]}."
    comparison = compare_wer(view, best_strategy[1], teacher_best_strategy[1] if teacher_best_strategy else [])
    return _wer_tile(view, model, "WER, long form", comparison, note)


def _hallucination_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    teacher = teacher_of(view, model)
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
        return Tile("Hallucination", format_count(hallucinated[0]), "words on audio without speech", sentence)
    aside = f"{teacher_name} {format_number(teacher_insertion_rate, 2)}" if teacher_insertion_rate is not None else ""
    return Tile("Insertions per 100 words", format_number(insertion_rate, 2), aside, sentence)


def _draft_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    results = sorted(
        (
            result
            for result in view.eval_results.speculative
            if result.draft == model.name and result.speculative_seconds
        ),
        key=lambda result: result.batch_size,
    )
    if not results:
        return None
    first, teacher_name = results[0], view.display_name(results[0].model)
    speedups = [f"{format_number(result.speedup, 2)}× at batch size {result.batch_size}" for result in results[1:]]
    others_text = f"; {join_names(speedups)}" if speedups else ""
    is_exact = all(result.identical == result.utterances for result in results)
    exact_text = "The text is identical." if is_exact else "The text is not always identical."
    badge: Badge = "no clear difference"
    if not 0.95 <= first.speedup < 1.05:
        badge = "faster" if first.speedup >= 1.05 else "slower"
    return Tile(
        "As a draft model",
        f"{format_number(first.speedup, 2)}×",
        f"{teacher_name} alone 1×",
        f"Speculative decoding of {teacher_name} at batch size {first.batch_size}{others_text}. {exact_text}",
        badge,
    )
