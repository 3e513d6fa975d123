"""Time and memory by batch size, and the speed-up of speculative decoding."""

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
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
    batch_sizes = sorted({speed.batch_size for speed in speeds})
    rows = []
    for batch_size in batch_sizes:
        if len(batch_sizes) > 1:
            rows.append(make_row(f"Batch size {batch_size}", kind="group"))
        for model in view.models:
            speed = view.speed_result(model.name, batch_size)
            if speed is None:
                continue
            rows.append(
                make_row(
                    view.display_name(model.name),
                    format_ratio(view.relative_speed(model.name, batch_size)),
                    _format_ms(speed.encoder_ms_per_window),
                    format_number(speed.decoder_ms_per_token, 2),
                    _format_ms(speed.latency_ms),
                    format_number(1 / speed.real_time_factor if speed.real_time_factor else None),
                    format_number(speed.weights_mib or None, 0),
                    format_number(speed.peak_memory_mib or None, 0),
                )
            )
    token_counts = sorted({speed.num_tokens for speed in speeds})
    table = Table(
        id="speed-batches",
        title="Time and memory",
        columns=make_columns(
            *("Model", "Relative speed", "Encoder, ms per window", "Decoder, ms per token", "Latency, ms"),
            *("× real time", "Weights, MiB", "Peak memory, MiB"),
        ),
        rows=rows,
        caption="Medians of interleaved runs after a warm-up. Latency: a batch of 30-second windows, end to end, with "
        f"{join_names(list(map(format_count, token_counts)))} tokens per window. Decoder: one step "
        "of the batch, per sequence. Relative speed: the teacher's latency over the model's at the same batch size.",
    )
    lead, charts = _speed_lead(view, batch_sizes), _build_throughput_chart(view, batch_sizes)
    return Section("speed", "Speed", TOC_HEADING, lead, [table.drop_empty_columns()], charts)


def _format_ms(milliseconds: float) -> str:
    return format_number(milliseconds, 0 if milliseconds >= 100 else 1)


def _speed_lead(view: ResultsView, batch_sizes: list[int]) -> str:
    if view.main_pair is None:
        return ""
    name, teacher_name = (view.display_name(model.name) for model in view.main_pair)
    ratios = {batch_size: view.relative_speed(view.main_pair[0].name, batch_size) for batch_size in batch_sizes}
    texts = [f"{format_ratio(ratio)} at batch size {size}" for size, ratio in ratios.items() if ratio is not None]
    return f"{name} against {teacher_name}: {join_names(texts)}." if texts else ""


def _build_throughput_chart(view: ResultsView, batch_sizes: list[int]) -> list[Chart]:
    points_by_model = {
        model.name: [
            Point(batch_size, 1 / speed.real_time_factor)
            for batch_size in batch_sizes
            if (speed := view.speed_result(model.name, batch_size)) and speed.real_time_factor
        ]
        for model in view.models
    }
    series = view.build_series(points_by_model)
    ticks = [(batch_size, str(batch_size)) for batch_size in batch_sizes]
    chart = Chart("speed-chart", "Throughput", "lines", "batch size", "× real time", series, ticks=ticks, log_x=True)
    return [chart] if len(batch_sizes) > 1 else []


def build_speculative_section(view: ResultsView) -> Section | None:
    """The teacher with a draft model against the teacher alone, by batch size (speculative decoding in the paper)."""
    results = view.eval_results.speculative
    if not results and not view.eval_results.draft_traces:
        return None
    section_id, title = "speculation", "Speculative decoding"
    if not results:
        return Section(section_id, title, TOC_HEADING, kind="draft_traces")
    results_by_pair: dict[tuple[str, str], list[SpeculativeResult]] = {}
    for result in results:
        results_by_pair.setdefault((result.model, result.draft), []).append(result)
    rows = []
    for pair, pair_results in results_by_pair.items():
        rows.append(make_row(" with ".join(map(view.display_name, pair)), kind="group"))
        rows += [
            make_row(
                format_count(result.batch_size),
                f"{format_number(result.speedup, 2)}×" if result.speculative_seconds else NOT_MEASURED,
                format_number(result.acceptance_rate),
                format_number(result.tokens_per_step, 2),
                format_number(result.baseline_seconds),
                format_number(result.speculative_seconds),
                format_number(result.encoder_seconds or None),
                f"{format_count(result.identical)} of {format_count(result.utterances)}",
            )
            for result in pair_results
        ]
    table = Table(
        id="speculation-batches",
        title="Speculative decoding against the teacher alone",
        columns=make_columns(
            *("Batch size", "Speed-up", "Accepted %", "Tokens per pass", "Alone, s", "With draft, s"),
            *("Encoder, s", "Identical"),
            text=0,
        ),
        rows=rows,
        caption="Speed-up: time of the teacher alone over time with the draft model, interleaved on the same "
        "utterances. Accepted: share of draft tokens that equal the teacher's greedy choice. Tokens per pass: output "
        "tokens per forward pass of the teacher. Encoder: its part of either time. Identical: utterances with the "
        "same tokens as the teacher alone.",
    )
    tables, charts = [table.drop_empty_columns()], _build_speculative_chart(view, results_by_pair)
    return Section(section_id, title, TOC_HEADING, _speculative_lead(view), tables, charts, "draft_traces")


def _speculative_lead(view: ResultsView) -> str:
    results = view.eval_results.speculative
    num_utterances = sum(result.utterances for result in results)
    num_differing = num_utterances - sum(result.identical for result in results)
    if num_differing:
        share = f"{format_count(num_differing)} of {format_count(num_utterances)}"
        return f"Not exact: {share} utterances differ from the teacher alone."
    faster = [result for result in results if result.speculative_seconds and result.speedup >= 1.0]
    batch_sizes = list(dict.fromkeys(str(result.batch_size) for result in faster))
    batch_text = f"at batch size {join_names(batch_sizes)}" if faster else "never"
    return f"All tokens are identical to the teacher alone. Faster than the teacher alone: {batch_text}."


def _build_speculative_chart(
    view: ResultsView, results_by_pair: dict[tuple[str, str], list[SpeculativeResult]]
) -> list[Chart]:
    series = []
    for pair, results in results_by_pair.items():
        points = [Point(result.batch_size, result.speedup) for result in results if result.speculative_seconds]
        points.sort(key=lambda point: point.x)
        series.append(Series(" with ".join(map(view.display_name, pair)), points, view.model_indices.get(pair[1], 0)))
    batch_sizes = sorted({int(point.x) for line in series for point in line.points})
    chart = Chart(
        id="speculation-chart",
        title="Speed-up of speculative decoding",
        kind="lines",
        x_label="batch size",
        y_label="speed-up over the teacher alone",
        series=series,
        ticks=[(batch_size, str(batch_size)) for batch_size in batch_sizes],
        log_x=True,
        reference_line=1.0,
        reference_label="teacher alone",
    )
    return [chart] if len(batch_sizes) > 1 else []
