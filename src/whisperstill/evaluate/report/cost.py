"""Time and memory by batch size, and the speed-up of speculative decoding."""

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
    Row,
    Section,
    Series,
    Table,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.formatting import format_count, format_number, format_ratio, join_names
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import SpeculativeResult

TOC_HEADING = "Cost"


def build_speed_section(view: ResultsView) -> Section | None:
    """Encoder, decoder and end-to-end latency, and memory, by batch size."""
    speeds = view.eval_results.speeds
    if not speeds:
        return None
    batch_sizes = sorted({speed_result.batch_size for speed_result in speeds})
    model_names = [
        model.name for model in view.models if any(speed_result.model == model.name for speed_result in speeds)
    ]
    rows: list[Row] = []
    for batch_size in batch_sizes:
        if len(batch_sizes) > 1:
            rows.append(make_row(f"Batch size {batch_size}", kind="group"))
        teacher_speed = view.teacher_speed_result(batch_size)
        for model_name in model_names:
            speed_result = view.speed_result(model_name, batch_size)
            if speed_result is None:
                continue
            rows.append(
                make_row(
                    view.display_name(model_name),
                    format_ratio(teacher_speed.latency_ms / speed_result.latency_ms)
                    if teacher_speed and speed_result.latency_ms
                    else NOT_MEASURED,
                    format_number(
                        speed_result.encoder_ms_per_window, _num_decimals(speed_result.encoder_ms_per_window)
                    ),
                    format_number(speed_result.decoder_ms_per_token, 2),
                    format_number(speed_result.latency_ms, _num_decimals(speed_result.latency_ms)),
                    format_number(1 / speed_result.real_time_factor if speed_result.real_time_factor else None),
                    format_number(speed_result.weights_mib or None, 0),
                    format_number(speed_result.peak_memory_mib or None, 0),
                )
            )
    token_counts = sorted({speed_result.num_tokens for speed_result in speeds})
    table = Table(
        id="speed-batches",
        title="Time and memory",
        columns=make_columns(
            "Model",
            numeric_titles=(
                *("Relative speed", "Encoder, ms per window", "Decoder, ms per token", "Latency, ms"),
                *("× real time", "Weights, MiB", "Peak memory, MiB"),
            ),
        ),
        rows=tuple(rows),
        caption="Medians of interleaved runs after a warm-up. Latency: a batch of 30-second windows, end to end, with "
        f"{join_names([format_count(num_tokens) for num_tokens in token_counts])} tokens per window. Decoder: one step "
        "of the batch, per sequence. Relative speed: the teacher's latency over the model's at the same batch size.",
    )
    lead = _speed_lead(view, batch_sizes)
    return Section(
        "speed",
        "Speed",
        TOC_HEADING,
        lead,
        tables=(table.drop_empty_columns(),),
        charts=_build_throughput_chart(view, model_names, batch_sizes),
    )


def _num_decimals(milliseconds: float) -> int:
    return 0 if milliseconds >= 100 else 1


def _speed_lead(view: ResultsView, batch_sizes: list[int]) -> str:
    if view.teacher is None or view.main_model is None or view.main_model is view.teacher:
        return ""
    speedup_texts = []
    for batch_size in batch_sizes:
        main_speed = view.speed_result(view.main_model.name, batch_size)
        teacher_speed = view.teacher_speed_result(batch_size)
        if main_speed and teacher_speed and main_speed.latency_ms:
            speedup_texts.append(
                f"{format_ratio(teacher_speed.latency_ms / main_speed.latency_ms)} at batch size {batch_size}"
            )
    models_text = f"{view.display_name(view.main_model.name)} against {view.display_name(view.teacher.name)}"
    return f"{models_text}: {join_names(speedup_texts)}." if speedup_texts else ""


def _build_throughput_chart(view: ResultsView, model_names: list[str], batch_sizes: list[int]) -> tuple[Chart, ...]:
    if len(batch_sizes) < 2:
        return ()
    points_by_model = {
        model_name: [
            Point(batch_size, 1 / speed.real_time_factor)
            for batch_size in batch_sizes
            if (speed := view.speed_result(model_name, batch_size)) and speed.real_time_factor
        ]
        for model_name in model_names
    }
    chart = Chart(
        id="speed-chart",
        title="Throughput",
        kind="lines",
        x_label="batch size",
        y_label="× real time",
        series=view.build_series(points_by_model),
        ticks=tuple((batch_size, str(batch_size)) for batch_size in batch_sizes),
        log_x=True,
    )
    return (chart,)


def build_speculative_section(view: ResultsView) -> Section | None:
    """The teacher with a draft model against the teacher alone, by batch size (speculative decoding in the paper)."""
    speculative_results = view.eval_results.speculative
    if not speculative_results and not view.eval_results.draft_traces:
        return None
    if not speculative_results:
        return Section("speculation", "Speculative decoding", TOC_HEADING, kind="draft_traces")
    model_pairs = list(dict.fromkeys((result.model, result.draft) for result in speculative_results))
    rows: list[Row] = []
    for model, draft in model_pairs:
        rows.append(make_row(f"{view.display_name(model)} with {view.display_name(draft)}", kind="group"))
        rows += [
            make_row(
                format_count(result.batch_size),
                format_speedup(result),
                format_number(result.acceptance_rate),
                format_number(result.tokens_per_step, 2),
                format_number(result.baseline_seconds),
                format_number(result.speculative_seconds),
                format_number(result.encoder_seconds or None),
                f"{format_count(result.identical)} of {format_count(result.utterances)}",
            )
            for result in speculative_results
            if (result.model, result.draft) == (model, draft)
        ]
    table = Table(
        id="speculation-batches",
        title="Speculative decoding against the teacher alone",
        columns=make_columns(
            numeric_titles=(
                *("Batch size", "Speed-up", "Accepted %", "Tokens per pass", "Alone, s", "With draft, s"),
                *("Encoder, s", "Identical"),
            ),
        ),
        rows=tuple(rows),
        caption="Speed-up: time of the teacher alone over time with the draft model, interleaved on the same "
        "utterances. Accepted: share of draft tokens that equal the teacher's greedy choice. Tokens per pass: output "
        "tokens per forward pass of the teacher. Encoder: its part of either time. Identical: utterances with the "
        "same tokens as the teacher alone.",
    )
    return Section(
        id="speculation",
        title="Speculative decoding",
        toc_heading=TOC_HEADING,
        lead=_speculative_lead(view),
        tables=(table.drop_empty_columns(),),
        charts=_build_speculative_chart(view, model_pairs),
        kind="draft_traces",
    )


def format_speedup(result: SpeculativeResult) -> str:
    """A speed-up with two decimals: `1.52×`."""
    return f"{format_number(result.speedup, 2)}×" if result.speculative_seconds else NOT_MEASURED.text


def _speculative_lead(view: ResultsView) -> str:
    speculative_results = view.eval_results.speculative
    num_differing = sum(result.utterances - result.identical for result in speculative_results)
    if num_differing:
        num_utterances = sum(result.utterances for result in speculative_results)
        return (
            f"Not exact: {format_count(num_differing)} of {format_count(num_utterances)} utterances differ from the "
            "teacher alone."
        )
    faster_results = [result for result in speculative_results if result.speculative_seconds and result.speedup >= 1.0]
    batch_sizes = [str(result.batch_size) for result in faster_results]
    batch_text = f"at batch size {join_names(list(dict.fromkeys(batch_sizes)))}" if faster_results else "never"
    return f"All tokens are identical to the teacher alone. Faster than the teacher alone: {batch_text}."


def _build_speculative_chart(view: ResultsView, model_pairs: list[tuple[str, str]]) -> tuple[Chart, ...]:
    speculative_results = [result for result in view.eval_results.speculative if result.speculative_seconds]
    batch_sizes = sorted({result.batch_size for result in speculative_results})
    if len(batch_sizes) < 2:
        return ()
    series = []
    for model, draft in model_pairs:
        pair_results = sorted(
            (result for result in speculative_results if (result.model, result.draft) == (model, draft)),
            key=lambda result: result.batch_size,
        )
        points = tuple(Point(result.batch_size, result.speedup) for result in pair_results)
        series_name = f"{view.display_name(model)} with {view.display_name(draft)}"
        series.append(Series(series_name, points, view.model_indices.get(draft, 0)))
    chart = Chart(
        id="speculation-chart",
        title="Speed-up of speculative decoding",
        kind="lines",
        x_label="batch size",
        y_label="speed-up over the teacher alone",
        series=tuple(series),
        ticks=tuple((batch_size, str(batch_size)) for batch_size in batch_sizes),
        log_x=True,
        reference_line=1.0,
        reference_label="teacher alone",
    )
    return (chart,)
