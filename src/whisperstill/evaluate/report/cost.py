"""Time and memory by batch size, and the speed-up of speculative decoding."""

from dataclasses import replace
from typing import Literal

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import Chart, Columns, Point, Section, Series, Table
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import SpeculativeResult, SpeedResult

TOC_HEADING = "Cost"


def build_speed_section(view: ResultsView) -> Section:
    """Encoder, decoder and end-to-end latency, and memory, by batch size."""
    speeds = view.eval_results.speeds
    batch_sizes = sorted({speed.batch_size for speed in speeds})
    by_model = {
        model.name: [speed for size in batch_sizes if (speed := view.speed_result(model.name, size))]
        for model in view.models
    }
    columns: Columns[SpeedResult] = [
        ("Model", lambda s: view.display_name(s.model)),
        ("Relative speed", lambda s: fmt.ratio(view.relative_speed(s.model, s.batch_size))),
        ("Encoder, ms per window", lambda s: _format_ms(s.encoder_ms_per_window)),
        ("Decoder, ms per token", lambda s: fmt.number(s.decoder_ms_per_token, 2)),
        ("Latency, ms", lambda s: _format_ms(s.latency_ms)),
        ("× real time", lambda s: fmt.number(1 / s.real_time_factor if s.real_time_factor else None)),
        ("Weights, MiB", lambda s: fmt.number(s.weights_mib or None, 0)),
        ("Peak memory, MiB", lambda s: fmt.number(s.peak_memory_mib or None, 0)),
    ]
    groups = {
        f"Batch size {size}": [s for model_speeds in by_model.values() for s in model_speeds if s.batch_size == size]
        for size in batch_sizes
    }
    token_counts = sorted({speed.num_tokens for speed in speeds})
    caption = (
        "Medians of interleaved runs after a warm-up. Latency: a batch of 30-second windows, end to end, with "
        f"{fmt.join(list(map(fmt.count, token_counts)))} tokens per window. Decoder: one step of the batch, per "
        "sequence. Relative speed: the teacher's latency over the model's at the same batch size."
    )
    table = Table.build("speed-batches", "Time and memory", columns, groups, caption)
    points_by_model = {
        name: [Point(s.batch_size, 1 / s.real_time_factor) for s in model_speeds if s.real_time_factor]
        for name, model_speeds in by_model.items()
    }
    series, ticks = view.model_series(points_by_model), {float(size): str(size) for size in batch_sizes}
    chart = Chart("speed-chart", "Throughput", "lines", "batch size", "× real time", series, ticks, log_x=True)
    return Section("speed", "Speed", TOC_HEADING, "", [table], [chart] if len(batch_sizes) > 1 else [])


def _format_ms(milliseconds: float) -> str:
    return fmt.number(milliseconds, 0 if milliseconds >= 100 else 1)


def build_speculative_section(view: ResultsView) -> Section:
    """The teacher with a draft model against the teacher alone, by batch size (speculative decoding in the paper)."""
    results = view.eval_results.speculative
    pairs = dict.fromkeys((result.model, result.draft) for result in results)
    groups = {
        " with ".join(map(view.display_name, pair)): [r for r in results if (r.model, r.draft) == pair]
        for pair in pairs
    }
    columns: Columns[SpeculativeResult] = [
        ("Batch size", lambda r: fmt.count(r.batch_size)),
        ("Speed-up", lambda r: fmt.ratio(r.speedup if r.speculative_seconds else None, 2)),
        ("Accepted %", lambda r: fmt.number(r.acceptance_rate)),
        ("Tokens per pass", lambda r: fmt.number(r.tokens_per_step, 2)),
        ("Alone, s", lambda r: fmt.number(r.baseline_seconds)),
        ("With draft, s", lambda r: fmt.number(r.speculative_seconds)),
        ("Encoder, s", lambda r: fmt.number(r.encoder_seconds or None)),
        ("Identical", lambda r: f"{fmt.count(r.identical)} of {fmt.count(r.utterances)}"),
    ]
    caption = (
        "Speed-up: time of the teacher alone over time with the draft model, interleaved on the same utterances. "
        "Accepted: share of draft tokens that equal the teacher's greedy choice. Tokens per pass: output tokens per "
        "forward pass of the teacher. Encoder: its part of either time. Identical: utterances with the same tokens as "
        "the teacher alone."
    )
    title = "Speculative decoding against the teacher alone"
    table = Table.build("speculation-batches", title, columns, groups, caption, 0)
    series = []
    for name, pair_results in groups.items():
        timed = sorted((r for r in pair_results if r.speculative_seconds), key=lambda r: r.batch_size)
        points = [Point(r.batch_size, r.speedup) for r in timed]
        series.append(Series(name, points, view.model_indices.get(pair_results[0].draft, 0)))
    batch_sizes = sorted({point.x for line in series for point in line.points})
    title, y_label = "Speed-up of speculative decoding", "speed-up over the teacher alone"
    ticks = {size: f"{size:g}" for size in batch_sizes}
    chart = Chart("speculation-chart", title, "lines", "batch size", y_label, series, ticks, log_x=True)
    chart = replace(chart, reference_line=1.0, reference_label="teacher alone")
    num_utterances = sum(result.utterances for result in results)
    num_differing = num_utterances - sum(result.identical for result in results)
    lead = "All tokens are identical to the teacher alone." if results else ""
    if num_differing:
        share = f"{fmt.count(num_differing)} of {fmt.count(num_utterances)}"
        lead = f"Not exact: {share} utterances differ from the teacher alone."
    charts = [chart] if len(batch_sizes) > 1 else []
    special: Literal["", "draft_traces"] = "draft_traces" if view.eval_results.draft_traces else ""
    return Section("speculation", "Speculative decoding", TOC_HEADING, lead, [table], charts, special)
