"""plan: what it would cost to distil a teacher on so many hours of speech, and about what to expect of the student.

Times are arithmetic over the networks' sizes and two speeds, measured on this machine or given for another one. What
to expect comes from a curve through the paper's figures for large-v2 (its table of training data: 435 h to 21 770 h),
`floor + a hours^-b` by least squares; below its hours it is an extrapolation.
"""

from dataclasses import dataclass
from typing import Literal

from whisperstill.errors import SettingsError
from whisperstill.stages.console import Console
from whisperstill.stages.doctor import PACKED_SECONDS, measure, spoken
from whisperstill.stages.estimate import (
    TOKENS_PER_SECOND,
    Sizes,
    Speeds,
    decode_seconds,
    parameters,
    sizes_of,
    train_seconds,
)
from whisperstill.units import WINDOW_POSITIONS

PAPER_HOURS = ((435, 16.4), (871, 14.0), (1742, 12.9), (3483, 12.0), (6966, 11.8), (13933, 11.6), (21770, 11.4))
"""Hours of training data and mean word error rate of distil-large-v2 out of distribution (arXiv 2311.00430)."""
TOP_BYTES = 6.0
"""Bytes of a stored logit and its token, compressed."""
STATE_BYTES = {"none": 0.0, "fp32": 4.0, "bf16": 2.0, "int8": 1.0}


@dataclass(frozen=True)
class PlanSettings:
    """What is to be distilled."""

    teacher: str
    """Name (`large-v3`) or directory of the teacher."""
    hours: float
    """Hours of speech."""
    decoder_layers: int = 2
    """Decoder layers of the student."""
    packings: int = 1
    """Ways of packing the speech into windows."""
    epochs: float = 10.0
    """Passes over all windows."""
    states: Literal["none", "fp32", "bf16", "int8"] = "bf16"
    """What is kept of the encoder's states."""
    top: int = 32
    """Largest logits kept per token."""
    gflops: float | None = None
    """Speed of large matrix products, GFLOP/s (an H100 in bf16: about 400 000); measured here by default."""
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
    above_paper: float
    """Points of word error rate above the paper's best student, by its own curve."""


def run(settings: PlanSettings, console: Console) -> PlanReport:
    """Estimate, and show.

    Raises `SettingsError` for a teacher whose sizes are not known, and for figures that cannot be.
    """
    teacher = sizes_of(settings.teacher)
    problems = []
    if teacher is None:
        problems.append(
            f"the sizes of {settings.teacher} are not known: name a Whisper model or a directory with config.json"
        )
    elif not 1 <= settings.decoder_layers <= teacher.decoder_layers:
        problems.append(f"decoder_layers must be 1 to {teacher.decoder_layers}, got {settings.decoder_layers}")
    for name in ("hours", "epochs", "packings"):
        if not getattr(settings, name) > 0:
            problems.append(f"{name} must be above 0, got {getattr(settings, name):g}")
    if problems or teacher is None:
        raise SettingsError("; ".join(problems))
    speeds = _speeds(settings)
    report = plan(teacher, settings, speeds)
    student = teacher.with_decoder(settings.decoder_layers)
    rows = [
        ["windows", f"{report.windows:,.0f}", f"of {PACKED_SECONDS:.0f} s in the mean, {settings.packings} packing(s)"],
        ["label", spoken(report.label_seconds), "the teacher hears each window once"],
        ["train", spoken(report.train_seconds), f"{settings.epochs:g} epochs, {student.decoder_layers} decoder layers"],
        ["disk", f"{report.disk_bytes / 1e9:,.1f} GB", f"states {settings.states}, top {settings.top}"],
        ["teacher", f"{report.teacher_parameters / 1e6:,.0f} M", "weights"],
        [
            "student",
            f"{report.student_parameters / 1e6:,.0f} M",
            f"{report.trained_parameters / 1e6:,.0f} M of them trained",
        ],
        [
            "to expect",
            f"+{report.above_paper:.1f} WER",
            "above the student of 21 770 h, by the paper's curve for large-v2",
        ],
    ]
    console.table(f"{settings.hours:g} h of speech, {settings.teacher}", ["what", "how much", "because"], rows)
    console.info(
        f"speeds: {speeds.products / 1e9:,.0f} GFLOP/s, {speeds.memory / 1e9:,.1f} GB/s; "
        "times are good to a factor of two"
    )
    if settings.hours < PAPER_HOURS[0][0]:
        console.warn(f"the paper's curve begins at {PAPER_HOURS[0][0]} h: what to expect of less is an extrapolation")
    return report


def plan(teacher: Sizes, settings: PlanSettings, speeds: Speeds) -> PlanReport:
    """The figures."""
    student = teacher.with_decoder(settings.decoder_layers)
    windows = settings.hours * 3600 / PACKED_SECONDS * settings.packings
    tokens = TOKENS_PER_SECOND * PACKED_SECONDS
    states = STATE_BYTES[settings.states] * teacher.width * WINDOW_POSITIONS
    hidden = (4.0 if settings.states == "fp32" else 2.0) * teacher.width * tokens if states else 0.0
    encoder, decoder, embedding = parameters(teacher)
    _, small, _ = parameters(student)
    return PlanReport(
        windows=windows,
        label_seconds=decode_seconds(teacher, windows, tokens, speeds),
        train_seconds=train_seconds(student, windows, tokens, settings.epochs, speeds, settings.states == "none"),
        disk_bytes=windows * (states + hidden + TOP_BYTES * settings.top * tokens),
        teacher_parameters=encoder + decoder + embedding,
        student_parameters=encoder + small + embedding,
        trained_parameters=small,
        above_paper=above_floor(settings.hours),
    )


def above_floor(hours: float) -> float:
    """Points of word error rate above that of the paper's largest training set, by the curve through its table."""
    _, a, b = paper_curve()
    above: float = a * (hours**-b - float(PAPER_HOURS[-1][0]) ** -b)
    return max(0.0, above)


def paper_curve() -> tuple[float, float, float]:
    """`floor`, `a` and `b` of `floor + a hours^-b`, by least squares over a grid of b."""
    import numpy as np

    hours, wer = np.array(PAPER_HOURS).T
    best: tuple[float, float, float, float] | None = None
    for b in np.arange(0.2, 1.51, 0.01):
        table = np.stack((np.ones_like(hours), hours**-b), 1)
        (floor, a), *_ = np.linalg.lstsq(table, wer, rcond=None)
        error = float(np.square(table @ (floor, a) - wer).sum())
        if best is None or error < best[0]:
            best = (error, float(floor), float(a), float(b))
    assert best is not None
    return best[1:]


def _speeds(settings: PlanSettings) -> Speeds:
    asked = settings.gflops is None or settings.gigabytes_per_second is None
    measured = measure() if asked else Speeds(0.0, 0.0, 2)
    products = measured.products if settings.gflops is None else settings.gflops * 1e9
    memory = measured.memory if settings.gigabytes_per_second is None else settings.gigabytes_per_second * 1e9
    return Speeds(products, memory, measured.value_bytes)
