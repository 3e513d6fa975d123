"""plan: what it would cost to distil a teacher on so many hours of speech, and about what to expect of the student.

Times are arithmetic over the networks' sizes and two speeds, measured on this machine or given for another one. What
to expect comes from a curve through the paper's figures for large-v2 (its table of training data: 435 h to 21 770 h),
`floor + a hours^-b` by least squares; below its hours it is an extrapolation.
"""

from dataclasses import dataclass
from typing import Literal

from whisperstill.console import Console
from whisperstill.errors import SettingsError
from whisperstill.stages.doctor import MEAN_PACKED_SECONDS, format_duration, measure_machine
from whisperstill.stages.estimate import (
    TOKENS_PER_SECOND,
    MachineSpeed,
    ModelSize,
    decode_seconds,
    model_size,
    parameter_counts,
    train_seconds,
)
from whisperstill.units import WINDOW_POSITIONS

PAPER_HOURS_AND_WER = ((435, 16.4), (871, 14.0), (1742, 12.9), (3483, 12.0), (6966, 11.8), (13933, 11.6), (21770, 11.4))
"""Hours of training data and mean word error rate of distil-large-v2 out of distribution (arXiv 2311.00430)."""
BYTES_PER_TOPK_ENTRY = 6.0
"""Bytes of a stored logit and its token, compressed."""
BYTES_PER_STATE_VALUE = {"none": 0.0, "float32": 4.0, "bfloat16": 2.0, "int8": 1.0}


@dataclass(frozen=True)
class PlanSettings:
    """What is to be distilled."""

    teacher: str
    """Name (`large-v3`) or directory of the teacher."""
    hours: float
    """Hours of speech."""
    decoder_layers: int = 2
    """Decoder layers of the student."""
    packing_variants: int = 1
    """Ways of packing the speech into windows."""
    num_train_epochs: float = 10.0
    """Passes over all windows."""
    encoder_states: Literal["none", "float32", "bfloat16", "int8"] = "bfloat16"
    """What is kept of the encoder's states."""
    top_k: int = 32
    """Largest logits kept per token."""
    gflops: float | None = None
    """Speed of large matrix products, GFLOP/s (an H100 in bfloat16: about 400 000); measured here by default."""
    gigabytes_per_second: float | None = None
    """Speed of memory (an H100: about 2 500); measured here by default."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What it would take."""

    windows: float
    label_seconds: float
    train_seconds: float
    disk_bytes: float
    """Of the labels."""
    teacher_parameters: float
    student_parameters: float
    trained_parameters: float
    """Of the student's decoder, the token embedding left out."""
    wer_above_paper: float
    """Points of word error rate above the paper's best student, by its own curve."""


def run(settings: PlanSettings, console: Console) -> PlanReport:
    """Estimate, and show.

    Raises `SettingsError` for a teacher whose sizes are not known, and for figures that cannot be.
    """
    teacher = model_size(settings.teacher)
    problems = []
    if teacher is None:
        problems.append(
            f"the sizes of {settings.teacher} are not known: name a Whisper model or a directory with config.json"
        )
    elif not 1 <= settings.decoder_layers <= teacher.decoder_layers:
        problems.append(f"decoder_layers must be 1 to {teacher.decoder_layers}, got {settings.decoder_layers}")
    for name in ("hours", "num_train_epochs", "packing_variants"):
        if not getattr(settings, name) > 0:
            problems.append(f"{name} must be above 0, got {getattr(settings, name):g}")
    if problems or teacher is None:
        raise SettingsError("; ".join(problems))
    speeds = _machine_speed(settings)
    report = estimate_cost(teacher, settings, speeds)
    student = teacher.with_decoder_layers(settings.decoder_layers)
    rows = [
        [
            "windows",
            f"{report.windows:,.0f}",
            f"of {MEAN_PACKED_SECONDS:.0f} s in the mean, {settings.packing_variants} packing(s)",
        ],
        ["label", format_duration(report.label_seconds), "the teacher hears each window once"],
        [
            "train",
            format_duration(report.train_seconds),
            f"{settings.num_train_epochs:g} epochs, {student.decoder_layers} decoder layers",
        ],
        [
            "disk",
            f"{report.disk_bytes / 1e9:,.1f} GB",
            f"encoder_states {settings.encoder_states}, top_k {settings.top_k}",
        ],
        ["teacher", f"{report.teacher_parameters / 1e6:,.0f} M", "weights"],
        [
            "student",
            f"{report.student_parameters / 1e6:,.0f} M",
            f"{report.trained_parameters / 1e6:,.0f} M of them trained",
        ],
        [
            "to expect",
            f"+{report.wer_above_paper:.1f} WER",
            "above the student of 21 770 h, by the paper's curve for large-v2",
        ],
    ]
    console.table(f"{settings.hours:g} h of speech, {settings.teacher}", ["what", "how much", "because"], rows)
    console.info(
        f"speeds: {speeds.flops_per_second / 1e9:,.0f} GFLOP/s, {speeds.bytes_per_second / 1e9:,.1f} GB/s; "
        "times are good to a factor of two"
    )
    if settings.hours < PAPER_HOURS_AND_WER[0][0]:
        console.warn(
            f"the paper's curve begins at {PAPER_HOURS_AND_WER[0][0]} h: what to expect of less is an extrapolation"
        )
    return report


def estimate_cost(teacher: ModelSize, settings: PlanSettings, speeds: MachineSpeed) -> PlanReport:
    """The figures."""
    student = teacher.with_decoder_layers(settings.decoder_layers)
    windows = settings.hours * 3600 / MEAN_PACKED_SECONDS * settings.packing_variants
    tokens = TOKENS_PER_SECOND * MEAN_PACKED_SECONDS
    state_bytes = BYTES_PER_STATE_VALUE[settings.encoder_states] * teacher.width * WINDOW_POSITIONS
    hidden_bytes = (
        (4.0 if settings.encoder_states == "float32" else 2.0) * teacher.width * tokens if state_bytes else 0.0
    )
    encoder, decoder, embedding = parameter_counts(teacher)
    _, student_decoder, _ = parameter_counts(student)
    return PlanReport(
        windows=windows,
        label_seconds=decode_seconds(teacher, windows, tokens, speeds),
        train_seconds=train_seconds(
            student, windows, tokens, settings.num_train_epochs, speeds, settings.encoder_states == "none"
        ),
        disk_bytes=windows * (state_bytes + hidden_bytes + BYTES_PER_TOPK_ENTRY * settings.top_k * tokens),
        teacher_parameters=encoder + decoder + embedding,
        student_parameters=encoder + student_decoder + embedding,
        trained_parameters=student_decoder,
        wer_above_paper=wer_above_paper_best(settings.hours),
    )


def wer_above_paper_best(hours: float) -> float:
    """Points of word error rate above that of the paper's largest training set, by the curve through its table."""
    _, a, b = fit_paper_curve()
    excess: float = a * (hours**-b - float(PAPER_HOURS_AND_WER[-1][0]) ** -b)
    return max(0.0, excess)


def fit_paper_curve() -> tuple[float, float, float]:
    """`floor`, `a` and `b` of `floor + a hours^-b`, by least squares over a grid of b."""
    import numpy as np

    hours, wer = np.array(PAPER_HOURS_AND_WER).T
    best: tuple[float, float, float, float] | None = None
    for b in np.arange(0.2, 1.51, 0.01):
        table = np.stack((np.ones_like(hours), hours**-b), 1)
        (floor, a), *_ = np.linalg.lstsq(table, wer, rcond=None)
        error = float(np.square(table @ (floor, a) - wer).sum())
        if best is None or error < best[0]:
            best = (error, float(floor), float(a), float(b))
    assert best is not None
    return best[1:]


def _machine_speed(settings: PlanSettings) -> MachineSpeed:
    needs_measuring = settings.gflops is None or settings.gigabytes_per_second is None
    measured = measure_machine() if needs_measuring else MachineSpeed(0.0, 0.0, 2)
    flops_per_second = measured.flops_per_second if settings.gflops is None else settings.gflops * 1e9
    bytes_per_second = (
        measured.bytes_per_second if settings.gigabytes_per_second is None else settings.gigabytes_per_second * 1e9
    )
    return MachineSpeed(flops_per_second, bytes_per_second, measured.bytes_per_value)
