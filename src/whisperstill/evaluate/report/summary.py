"""The report on one screen: size, speed and accuracy of the main model against its teacher.

Each tile has one figure, the teacher's, and the difference in words. A difference in error rate is reported only if
its interval excludes zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.comparison import Badge, WerComparison, compare_short_form, compare_wer
from whisperstill.evaluate.report.hallucination import count_hallucinated_words, pooled_insertion_rate
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import ModelInfo


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary, figures beside it (such as the teacher's), and the difference in a sentence."""

    label: str
    value: str
    aside: str = ""
    sentence: str = ""
    badge: Badge = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a report."""

    sentence: str
    tiles: list[Tile]
    other_sentences: list[str]
    """One sentence for each model besides the main one."""


def build_summary(view: ResultsView) -> Summary | None:
    """Summary of the main model; None without models."""
    model = view.main_model
    if model is None:
        return None
    near, far = (compare_short_form(view, model, in_distribution) for in_distribution in (True, False))
    far_label = "WER, out of distribution" if view.has_distributions else "WER, short form"
    tiles = [
        _size_tile(view, model),
        _speed_tile(view, model),
        _wer_tile(view, "WER, in distribution" if far else "WER, short form", near),
        _wer_tile(view, far_label, far),
        _long_form_tile(view, model),
        _insertions_tile(view, model),
        _non_speech_tile(view, model),
        _draft_tile(view, model),
    ]
    others = view.compared_models[1:] if view.teacher else []
    other_sentences = [_summary_sentence(view, other) for other in others]
    return Summary(_summary_sentence(view, model), [tile for tile in tiles if tile], other_sentences)


def _summary_sentence(view: ResultsView, model: ModelInfo) -> str:
    name, teacher = view.display_name(model.name), view.teacher_of(model)
    comparison, datasets_text = compare_short_form(view, model, False), ""
    if comparison is None:
        comparison = compare_short_form(view, model, None)
    elif view.has_distributions:
        datasets_text = " out of distribution"
    rates = ""
    if comparison:
        unit = view.error_units(result.dataset for result in comparison.results)
        rates = f"{fmt.number(comparison.mean.value)} errors per 100 {unit}{datasets_text}"
    if teacher is None:
        reason = "No other model was measured." if view.teacher else "No teacher was measured for comparison."
        return f"{name}{': ' if rates else ''}{rates}. {reason}"
    speed = view.relative_speed(model.name)
    claims = [f"is {fmt.number(speed)} times as fast"] if speed else []
    if model.parameters and teacher.parameters:
        claims.append(f"has {_describe_size(model, teacher)} parameters")
    teacher_name = view.display_name(teacher.name)
    if comparison and comparison.teacher_wer is not None:
        claims.append(_describe_accuracy(comparison, comparison.teacher_wer))
        rates += f", {teacher_name} {fmt.number(comparison.teacher_wer)}"
    return f"Against {teacher_name}, {name} {fmt.join(claims) or 'was measured'}{': ' if rates else ''}{rates}."


def _describe_size(model: ModelInfo, teacher: ModelInfo) -> str:
    """Parameters of a model against the teacher's: `23 % fewer`, `as many`."""
    change = model.parameters / teacher.parameters - 1
    return f"{100 * abs(change):.0f} % {'fewer' if change < 0 else 'more'}" if abs(change) >= 0.005 else "as many"


def _describe_accuracy(comparison: WerComparison, teacher_wer: float) -> str:
    if comparison.badge == "no clear difference":
        differs = "worse" in comparison.by_dataset or "better" in comparison.by_dataset
        on_average = f"on average, but is {comparison.by_dataset}" if differs else "in accuracy"
        return f"shows no clear difference {on_average}"
    if comparison.badge == "better":
        return "is more accurate"
    wer_ratio = comparison.mean.value / teacher_wer if teacher_wer else float("inf")
    return f"is {'far ' if wer_ratio >= 2 else '' if wer_ratio >= 1.1 else 'slightly '}less accurate"


def _beside(view: ResultsView, model: ModelInfo, figure: Callable[[ModelInfo], str]) -> str:
    """The teacher's name and figure; empty if it was not measured or is the model itself."""
    teacher = view.teacher_of(model)
    text = figure(teacher) if teacher else ""
    return f"{view.display_name(teacher.name)} {text}" if teacher and text else ""


def _size_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    def figure(candidate: ModelInfo) -> str:
        return f"{fmt.millions(candidate.parameters)} M" if candidate.parameters else ""

    if not model.parameters:
        return None
    teacher, aside = view.teacher_of(model), _beside(view, model, figure)
    if teacher is None or not aside:
        layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers."
        return Tile("Parameters", figure(model), "", layers if model.decoder_layers else "")
    change, layers = _describe_size(model, teacher), ""
    if model.decoder_layers and model.decoder_layers != teacher.decoder_layers:
        layers = f": {model.decoder_layers} decoder layers instead of {teacher.decoder_layers}"
    badge: Badge = "smaller" if "fewer" in change else "larger" if "more" in change else ""
    return Tile("Parameters", figure(model), aside, f"{change.capitalize()} parameters{layers}.", badge)


def _speed_badge(speedup: float) -> Badge:
    return "faster" if speedup >= 1.05 else "slower" if speedup < 0.95 else "no clear difference"


def _speed_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    speed, ratio, teacher = view.speed_result(model.name), view.relative_speed(model.name), view.teacher_of(model)
    teacher_speed = view.speed_result(teacher.name) if teacher else None
    if speed is None:
        return None
    latency = f"{fmt.count(speed.latency_ms)} ms"
    if teacher_speed is None or ratio is None:
        return Tile("Latency", latency, "", f"One 30-second window, {speed.num_tokens} tokens, batch size 1.")
    sentence = f"A window takes {latency} instead of {fmt.count(teacher_speed.latency_ms)} ms."
    largest_batch = max(result.batch_size for result in view.eval_results.speeds if result.model == model.name)
    if largest_batch > 1 and (batched_ratio := view.relative_speed(model.name, largest_batch)):
        sentence += f" At batch size {largest_batch}: {fmt.ratio(batched_ratio)}."
    aside = f"{view.display_name(teacher_speed.model)} 1×"
    return Tile("Speed at batch size 1", fmt.ratio(ratio), aside, sentence, _speed_badge(ratio))


def _wer_tile(view: ResultsView, label: str, comparison: WerComparison | None, note: str = "") -> Tile | None:
    if comparison is None:
        return None
    value = fmt.rate(comparison.mean.value, comparison.mean.low, comparison.mean.high)
    num_words = fmt.count(sum(result.words for result in comparison.results))
    measured_on = f"on {num_words} {view.error_units(result.dataset for result in comparison.results)}.{note}"
    if view.teacher is None or comparison.teacher_wer is None:
        return Tile(label, f"{value.text} %", value.aside, f"Measured {measured_on}")
    change, interval = comparison.mean.value - comparison.teacher_wer, "not paired"
    if difference := comparison.difference:
        change = difference.value
        interval = f"95 %: {fmt.signed(difference.low)} to {fmt.signed(difference.high)}"
    teacher_text = f"{view.display_name(view.teacher.name)} {fmt.number(comparison.teacher_wer)}"
    aside = " · ".join(filter(None, (value.aside, teacher_text)))
    sentence = f"{fmt.signed(change)} points ({interval}) {measured_on}"
    return Tile(label, f"{value.text} %", aside, sentence, comparison.badge)


def _long_form_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    datasets, teacher = view.out_of_distribution_long_form_datasets, view.teacher_of(model)
    strategy, results = view.best_strategy(model.name, datasets)
    teacher_strategy, teacher_results = view.best_strategy(teacher.name, datasets) if teacher else ("", [])
    differs = teacher and teacher_strategy not in ("", strategy)
    beside = f"; {view.display_name(teacher.name)}: {teacher_strategy}" if teacher and differs else ""
    return _wer_tile(view, "WER, long form", compare_wer(results, teacher_results), f" Strategy: {strategy}{beside}.")


def _insertions_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    def figure(candidate: ModelInfo) -> str:
        rate = pooled_insertion_rate(view, candidate.name)
        return "" if rate is None else fmt.number(rate, 2)

    def loops(candidate: ModelInfo) -> str:
        results = view.short_form_results(candidate.name)
        return fmt.count(sum(result.hallucination.repetition_loops for result in results)) if results else ""

    teacher_loops = _beside(view, model, loops)
    sentence = f"Utterances with a repetition loop: {loops(model)}{teacher_loops and f' ({teacher_loops})'}."
    value, aside = figure(model), _beside(view, model, figure)
    return Tile("Insertions per 100 words", value, aside, sentence) if value else None


def _non_speech_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    def figure(candidate: ModelInfo) -> str:
        words = count_hallucinated_words(view, candidate.name)
        return fmt.count(words[0]) if words else ""

    words = count_hallucinated_words(view, model.name)
    filtered = count_hallucinated_words(view, model.name, hallucination_filter=True)
    filter_text = f"; with the hallucination filter {fmt.count(filtered[0])}" if filtered else ""
    sentence = f"In {fmt.pluralize(words[1], 'clip')}{filter_text}." if words else ""
    aside = _beside(view, model, figure)
    return Tile("Words on audio without speech", figure(model), aside, sentence) if words else None


def _draft_tile(view: ResultsView, model: ModelInfo) -> Tile | None:
    speculative = view.eval_results.speculative
    results = [result for result in speculative if result.draft == model.name and result.speculative_seconds]
    if not results:
        return None
    first, *others = sorted(results, key=lambda result: result.batch_size)
    name = view.display_name(first.model)
    others_text = "".join(f"; {fmt.ratio(r.speedup, 2)} at batch size {r.batch_size}" for r in others)
    is_exact = all(result.identical == result.utterances for result in results)
    exact_text = f"The text is {'' if is_exact else 'not always '}identical."
    sentence = f"Speculative decoding of {name} at batch size {first.batch_size}{others_text}. {exact_text}"
    return Tile(
        "As a draft model", fmt.ratio(first.speedup, 2), f"{name} alone 1×", sentence, _speed_badge(first.speedup)
    )
