"""`plan`: time, disk and accuracy to expect of distilling a teacher on some hours of speech.

Times are FLOPs over two speeds, measured here or given for another machine (`pipeline.cost_estimate`). The expected WER
comes from a least-squares fit of `floor + a hours^-b` to the paper's results for large-v2 (435 to 21 770 h of training
data); for fewer hours it is an extrapolation.
"""

from dataclasses import dataclass, replace
from typing import Literal

from whisperstill.console import SILENT, Console, format_duration
from whisperstill.errors import SettingsError
from whisperstill.pipeline import cost_estimate
from whisperstill.pipeline.cost_estimate import MachineSpeed, ModelSize
from whisperstill.units import WINDOW_POSITIONS

PAPER_HOURS_AND_WER = ((435, 16.4), (871, 14.0), (1742, 12.9), (3483, 12.0), (6966, 11.8), (13933, 11.6), (21770, 11.4))
"""Hours of training data and mean out-of-distribution WER of distil-large-v2 (arXiv 2311.00430)."""
BYTES_PER_TOPK_ENTRY = 6.0
"""Bytes of a stored logit and its token id, compressed."""
BYTES_PER_STATE_VALUE = {"none": 0.0, "float32": 4.0, "bfloat16": 2.0, "int8": 1.0}


@dataclass(frozen=True)
class PlanSettings:
    """Estimate what distilling a teacher costs, and the student's accuracy."""

    teacher: str
    """Teacher: name (`large-v3`) or directory."""
    hours: float
    """Hours of speech."""
    decoder_layers: int = 2
    """Decoder layers of the student."""
    packing_variants: int = 1
    """Packing variants: ways to pack the speech into windows."""
    num_train_epochs: float = 10.0
    """Epochs of training."""
    encoder_states: Literal["none", "float32", "bfloat16", "int8"] = "bfloat16"
    """Dtype of the stored encoder states; `none` stores none."""
    top_k: int = 32
    """Logits stored per token."""
    gflops: float | None = None
    """Speed of large matrix products in GFLOP/s (H100 in bfloat16: about 400 000); measured here by default."""
    gigabytes_per_second: float | None = None
    """Memory bandwidth in GB/s (H100: about 2 500); measured here by default."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """Estimated cost and accuracy."""

    windows: float
    label_seconds: float
    train_seconds: float
    disk_bytes: float
    """Size of the label store."""
    teacher_parameters: float
    student_parameters: float
    trained_parameters: float
    """Weights of the student's decoder without the token embedding."""
    wer_above_paper: float
    """Percentage points of WER above the paper's best student, by the fitted curve."""


def run(settings: PlanSettings, console: Console = SILENT) -> PlanReport:
    """Prints the estimate.

    Raises `SettingsError` for a teacher of unknown size and for values out of range.
    """
    teacher = cost_estimate.model_size(settings.teacher)
    problems = []
    if teacher is None:
        problems.append(f"the size of {settings.teacher} is unknown: name a Whisper model or a directory")
    elif not 1 <= settings.decoder_layers <= teacher.decoder_layers:
        problems.append(f"decoder_layers must be 1 to {teacher.decoder_layers}, got {settings.decoder_layers}")
    for name in ("hours", "num_train_epochs", "packing_variants"):
        if not getattr(settings, name) > 0:
            problems.append(f"{name} must be above 0, got {getattr(settings, name):g}")
    if problems or teacher is None:
        raise SettingsError("; ".join(problems))
    speed = _machine_speed(settings)
    report = estimate_cost(teacher, settings, speed)
    windows_basis = (
        f"{cost_estimate.MEAN_PACKED_SECONDS:.0f} s on average, {settings.packing_variants} packing variant(s)"
    )
    train_basis = f"{settings.num_train_epochs:g} epochs, {settings.decoder_layers} decoder layers"
    rows = [
        ["windows", f"{report.windows:,.0f}", windows_basis],
        ["label", format_duration(report.label_seconds), "the teacher decodes each window once"],
        ["train", format_duration(report.train_seconds), train_basis],
        ["disk", f"{report.disk_bytes / 1e9:,.1f} GB", f"{settings.encoder_states} states, top_k {settings.top_k}"],
        ["teacher", f"{report.teacher_parameters / 1e6:,.0f} M", "weights"],
        ["student", f"{report.student_parameters / 1e6:,.0f} M", f"{report.trained_parameters / 1e6:,.0f} M trained"],
        ["WER", f"+{report.wer_above_paper:.1f}", "above the paper's student of 21 770 h, by its curve for large-v2"],
    ]
    console.table(f"{settings.hours:g} h of speech, {settings.teacher}", ["what", "estimate", "basis"], rows)
    console.info(f"speed: {speed}; times are good to a factor of two")
    if settings.hours < PAPER_HOURS_AND_WER[0][0]:
        console.warn(f"the paper's curve starts at {PAPER_HOURS_AND_WER[0][0]} h: the WER is an extrapolation")
    return report


def estimate_cost(teacher: ModelSize, settings: PlanSettings, speed: MachineSpeed) -> PlanReport:
    """The estimate for a machine of this speed."""
    student = replace(teacher, decoder_layers=settings.decoder_layers)
    windows = cost_estimate.packed_windows(settings.hours, settings.packing_variants)
    tokens = cost_estimate.TOKENS_PER_WINDOW
    state_bytes = BYTES_PER_STATE_VALUE[settings.encoder_states] * teacher.width * WINDOW_POSITIONS
    hidden_value_bytes = 4.0 if settings.encoder_states == "float32" else 2.0
    hidden_bytes = hidden_value_bytes * teacher.width * tokens if state_bytes else 0.0
    encoder, decoder, embedding = cost_estimate.parameter_counts(teacher)
    _, student_decoder, _ = cost_estimate.parameter_counts(student)
    return PlanReport(
        windows=windows,
        label_seconds=cost_estimate.decode_seconds(teacher, windows, speed),
        train_seconds=cost_estimate.train_seconds(
            student, windows, settings.num_train_epochs, speed, settings.encoder_states == "none"
        ),
        disk_bytes=windows * (state_bytes + hidden_bytes + BYTES_PER_TOPK_ENTRY * settings.top_k * tokens),
        teacher_parameters=encoder + decoder + embedding,
        student_parameters=encoder + student_decoder + embedding,
        trained_parameters=student_decoder,
        wer_above_paper=wer_above_paper_best(settings.hours),
    )


def wer_above_paper_best(hours: float) -> float:
    """Percentage points of WER above the paper's largest training set, by the fitted curve."""
    _, a, b = fit_paper_curve()
    excess: float = a * (hours**-b - float(PAPER_HOURS_AND_WER[-1][0]) ** -b)
    return max(0.0, excess)


def fit_paper_curve() -> tuple[float, float, float]:
    """`floor`, `a` and `b` of `floor + a hours^-b`: least squares for each b of a grid."""
    import numpy as np

    hours, wer = np.array(PAPER_HOURS_AND_WER).T
    fits = []
    for b in np.arange(0.2, 1.51, 0.01):
        table = np.stack((np.ones_like(hours), hours**-b), 1)
        (floor, a), *_ = np.linalg.lstsq(table, wer, rcond=None)
        fits.append((float(np.square(table @ (floor, a) - wer).sum()), float(floor), float(a), float(b)))
    return min(fits)[1:]


def _machine_speed(settings: PlanSettings) -> MachineSpeed:
    gflops, gigabytes = settings.gflops, settings.gigabytes_per_second
    measured = cost_estimate.measure_machine() if gflops is None or gigabytes is None else MachineSpeed(0.0, 0.0, 2)
    return MachineSpeed(
        measured.flops_per_second if gflops is None else gflops * 1e9,
        measured.bytes_per_second if gigabytes is None else gigabytes * 1e9,
        measured.bytes_per_value,
    )
