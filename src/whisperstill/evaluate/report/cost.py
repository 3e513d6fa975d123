"""What it costs: time and memory at every batch size, and what a draft saves the teacher."""

from whisperstill.evaluate.report.blocks import (
    NOTHING,
    Chart,
    Point,
    Row,
    Section,
    Series,
    Table,
    columns,
    row,
    without_empty_columns,
)
from whisperstill.evaluate.report.numbers import count, figure, one_of, times
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import SpeculationMeasured

GROUP = "Cost"


def speed(view: View) -> Section | None:
    """Encoder, decoder, whole windows and memory at every batch size."""
    speeds = view.findings.speeds
    if not speeds:
        return None
    sizes = sorted({one.batch_size for one in speeds})
    names = [model.name for model in view.models if any(one.model == model.name for one in speeds)]
    rows: list[Row] = []
    for size in sizes:
        if len(sizes) > 1:
            rows.append(row(f"Batch {size}", kind="group"))
        teacher = view.teacher and view.speed(view.teacher.name, size)
        for name in names:
            one = view.speed(name, size)
            if one is None:
                continue
            rows.append(
                row(
                    view.label(name),
                    times(teacher.latency_ms / one.latency_ms) if teacher and one.latency_ms else NOTHING,
                    figure(one.encoder_ms_per_window, _digits(one.encoder_ms_per_window)),
                    figure(one.decoder_ms_per_token, 2),
                    figure(one.latency_ms, _digits(one.latency_ms)),
                    figure(1 / one.real_time_factor if one.real_time_factor else None),
                    figure(one.weights_mib or None, 0),
                    figure(one.peak_mib or None, 0),
                )
            )
    tokens = sorted({one.tokens for one in speeds})
    table = Table(
        id="speed-batches",
        title="Time and memory",
        columns=columns(
            "Model",
            figures=(
                *("Relative speed", "Encoder, ms a window", "Decoder, ms a token", "Latency, ms"),
                *("× real time", "Weights, MiB", "Peak, MiB"),
            ),
        ),
        rows=tuple(rows),
        caption="Medians of interleaved runs after a warm-up. Latency: from a batch of 30-second windows to their "
        f"texts of {one_of([count(each) for each in tokens])} tokens. Decoder: a step of the whole batch, per sequence."
        " Relative speed: the teacher's latency over the model's at the same batch size.",
    )
    lead = _speed_lead(view, sizes)
    return Section(
        "speed", "Speed", GROUP, lead, tables=(without_empty_columns(table),), charts=_chart(view, names, sizes)
    )


def _digits(milliseconds: float) -> int:
    return 0 if milliseconds >= 100 else 1


def _speed_lead(view: View, sizes: list[int]) -> str:
    if view.teacher is None or view.main is None or view.main is view.teacher:
        return ""
    said = []
    for size in sizes:
        own, teachers = view.speed(view.main.name, size), view.speed(view.teacher.name, size)
        if own and teachers and own.latency_ms:
            said.append(f"{times(teachers.latency_ms / own.latency_ms)} at batch {size}")
    return f"{view.label(view.main.name)} against {view.label(view.teacher.name)}: {one_of(said)}." if said else ""


def _chart(view: View, names: list[str], sizes: list[int]) -> tuple[Chart, ...]:
    if len(sizes) < 2:
        return ()
    series = []
    for name in names:
        found = ((size, view.speed(name, size)) for size in sizes)
        points = (Point(size, 1 / one.real_time_factor) for size, one in found if one and one.real_time_factor)
        series.append(Series(view.label(name), tuple(points), view.places[name]))
    chart = Chart(
        id="speed-chart",
        title="Throughput",
        kind="lines",
        x_label="batch size",
        y_label="× real time",
        series=tuple(series),
        ticks=tuple((size, str(size)) for size in sizes),
        log_x=True,
    )
    return (chart,)


def speculation(view: View) -> Section | None:
    """The teacher with a draft against the teacher alone, by batch size (the paper's table of speculative decoding)."""
    found = view.findings.speculations
    if not found and not view.findings.drafts:
        return None
    if not found:
        return Section("speculation", "Speculative decoding", GROUP, kind="drafts")
    pairs = list(dict.fromkeys((one.model, one.draft) for one in found))
    rows: list[Row] = []
    for model, draft in pairs:
        rows.append(row(f"{view.label(model)} with {view.label(draft)}", kind="group"))
        rows += [
            row(
                count(one.batch_size),
                times_exactly(one),
                figure(one.accepted),
                figure(one.tokens_per_step, 2),
                figure(one.seconds_alone),
                figure(one.seconds_with_draft),
                figure(one.encoder_seconds or None),
                f"{count(one.identical)} of {count(one.utterances)}",
            )
            for one in found
            if (one.model, one.draft) == (model, draft)
        ]
    table = Table(
        id="speculation-batches",
        title="The teacher with a draft, against the teacher alone",
        columns=columns(
            figures=(
                *("Batch", "Speed-up", "Accepted %", "Tokens a pass", "Alone, s", "With draft, s"),
                *("of it encoder, s", "Same tokens"),
            ),
        ),
        rows=tuple(rows),
        caption="Speed-up: time alone over time with the draft, in turns on the same utterances; below 1 the draft "
        "does not pay. Accepted: share of proposed tokens that the teacher would have said. A pass: one run of the "
        "teacher. Same tokens: utterances whose text is the teacher's alone.",
    )
    return Section(
        id="speculation",
        title="Speculative decoding",
        group=GROUP,
        lead=_speculation_lead(view),
        tables=(without_empty_columns(table),),
        charts=_speculation_chart(view, pairs),
        kind="drafts",
    )


def times_exactly(one: SpeculationMeasured) -> str:
    """A speed-up with two decimals: it lies near 1."""
    return f"{figure(one.speed_up, 2)}×" if one.seconds_with_draft else NOTHING.text


def _speculation_lead(view: View) -> str:
    found = view.findings.speculations
    differing = sum(one.utterances - one.identical for one in found)
    if differing:
        return (
            f"Not exact: {count(differing)} of {count(sum(one.utterances for one in found))} utterances have other "
            "tokens than the teacher's alone."
        )
    pays = [one for one in found if one.seconds_with_draft and one.speed_up >= 1.0]
    sizes = [str(one.batch_size) for one in pays]
    where = "at no batch size" if not pays else f"at batch {one_of(list(dict.fromkeys(sizes)))}"
    return f"The text is the teacher's to the last token. The draft pays {where}."


def _speculation_chart(view: View, pairs: list[tuple[str, str]]) -> tuple[Chart, ...]:
    found = [one for one in view.findings.speculations if one.seconds_with_draft]
    sizes = sorted({one.batch_size for one in found})
    if len(sizes) < 2:
        return ()
    series = []
    for model, draft in pairs:
        inside = sorted((o for o in found if (o.model, o.draft) == (model, draft)), key=lambda one: one.batch_size)
        points = tuple(Point(one.batch_size, one.speed_up) for one in inside)
        name = f"{view.label(model)} with {view.label(draft)}"
        series.append(Series(name, points, view.places.get(draft, 0)))
    chart = Chart(
        id="speculation-chart",
        title="Speed-up by a draft",
        kind="lines",
        x_label="batch size",
        y_label="times as fast as alone",
        series=tuple(series),
        ticks=tuple((size, str(size)) for size in sizes),
        log_x=True,
        mark=1.0,
        mark_label="alone",
    )
    return (chart,)
