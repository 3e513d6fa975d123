"""Finds the files of a model by name and loads them: path, installed package, openai-whisper cache, hub cache, hub."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from whisperstill.errors import CheckpointError, NotFoundError
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.ctranslate2 import read_ctranslate2
from whisperstill.model.checkpoints.delta import read_delta
from whisperstill.model.checkpoints.huggingface import read_huggingface
from whisperstill.model.checkpoints.openai import read_openai
from whisperstill.model.checkpoints.packages import find_packages, install_hint

logger = logging.getLogger(__name__)

CheckpointFormat = Literal["huggingface", "delta", "ctranslate2", "openai"]

_MODEL_SIZES = ("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en", "large")
_LARGE_VERSIONS = ("large-v1", "large-v2", "large-v3", "large-v3-turbo")
_DISTILLED = ("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3", "distil-large-v3.5")
SHORT_NAMES: dict[str, str] = {
    **{name: f"openai/whisper-{name}" for name in (*_MODEL_SIZES, *_LARGE_VERSIONS)},
    **{name: f"distil-whisper/{name}" for name in _DISTILLED},
    "large": "openai/whisper-large-v3",
    "turbo": "openai/whisper-large-v3-turbo",
}
"""Short name -> repository on the Hugging Face hub."""

_WEIGHT_FILES: dict[str, CheckpointFormat] = {
    "model.safetensors": "huggingface",
    "model.safetensors.index.json": "huggingface",
    "model.bin": "ctranslate2",
    "model.bin.part*": "ctranslate2",
    "pytorch_model.bin": "huggingface",
    "pytorch_model.bin.index.*": "huggingface",
    "delta.safetensors": "delta",
}
"""Weight file, or pattern of files -> format. Where a directory holds several, the first one decides."""
_TOKENIZER_FILES = ["tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"]
_CONFIG_FILES = ["config.json", "generation_config.json", *_TOKENIZER_FILES]
_WEIGHT_PATTERNS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors", "model.bin"]
_DOWNLOAD_PATTERNS = [*_CONFIG_FILES, *_WEIGHT_PATTERNS, "delta.safetensors", "whisperstill.json"]


@dataclass(frozen=True, slots=True)
class CheckpointLocation:
    """Format and files of a model."""

    format: CheckpointFormat
    paths: tuple[Path, ...]
    """Its directory, several directories if it is split over packages, or the `.pt` file."""
    display_name: str
    """Name for messages: `tiny.en (installed package)`."""


def load_checkpoint(
    name: str | Path, dtype: torch.dtype | None = torch.float32, *, offline: bool | None = None
) -> Checkpoint:
    """Loads a checkpoint by name or path (see `resolve_checkpoint`) on the CPU, as `dtype` (None: as stored).

    Raises `NotFoundError` if there is no such model, `CheckpointError` if it cannot be read.
    """
    location = resolve_checkpoint(name, offline=offline)
    match location.format:
        case "ctranslate2":
            return read_ctranslate2(location.paths, location.display_name, dtype)
        case "huggingface":
            return read_huggingface(location.paths[0], location.display_name, dtype)
        case "delta":
            return read_delta(location.paths[0], location.display_name, dtype, load_checkpoint)
        case "openai":
            return read_openai(location.paths[0], location.display_name, dtype)


def resolve_checkpoint(name: str | Path, *, offline: bool | None = None) -> CheckpointLocation:
    """Finds a model by path, short name (`tiny` ... `large-v3-turbo`, `distil-large-v3`) or hub name (`owner/name`).

    `offline` True uses no network; None follows the environment variable `HF_HUB_OFFLINE`.
    Raises `NotFoundError` that lists every place searched, `CheckpointError` if a path holds no checkpoint.
    """
    # 1. A local path.
    path = Path(name).expanduser()
    if path.exists():
        return locate_checkpoint(path, str(name))
    attempts = ["no such path"]
    if not isinstance(name, str):
        raise NotFoundError(f"no checkpoint {name}: {attempts[0]}; name a directory with config.json and weights")
    # 2. Installed packages with pinned weights.
    directories, reason = find_packages(name)
    if directories:
        return CheckpointLocation("ctranslate2", directories, f"{name} (installed package)")
    attempts.append(reason)
    # 3. The cache of openai-whisper.
    openai_cache_file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper" / f"{name}.pt"
    if "/" not in name and openai_cache_file.is_file():
        return CheckpointLocation("openai", (openai_cache_file,), f"{name} (cache of openai-whisper)")
    attempts.append("not in the cache of openai-whisper")
    # 4. The Hugging Face hub: its cache, then the network.
    repository = SHORT_NAMES.get(name, name)
    if repository.count("/") == 1 and not repository.startswith((".", "/", "~")):
        location, reasons = _find_on_hub(repository, offline)
        if location is not None:
            return location
        attempts += reasons
    else:
        attempts.append("not a hub name")
    hint = install_hint(name) or "name a directory, or download the model on a machine with network"
    raise NotFoundError(f"no model {name}: {', '.join(attempts)}; {hint}")


def locate_checkpoint(path: Path, display_name: str) -> CheckpointLocation:
    """The checkpoint at a path: a directory, one of its weight files, or a `.pt` file; else `CheckpointError`."""
    if path.is_file():
        if path.suffix == ".pt":
            return CheckpointLocation("openai", (path,), display_name)
        path = path.parent
    checkpoint_format = _detect_format(path)
    if checkpoint_format is None:
        pt_files = sorted(path.glob("*.pt"))
        if len(pt_files) == 1:
            return CheckpointLocation("openai", (pt_files[0],), display_name)
        raise CheckpointError(
            f"{display_name} holds no checkpoint: expected model.safetensors, model.bin or a .pt file of openai/whisper"
        )
    return CheckpointLocation(checkpoint_format, (path,), display_name)


def _detect_format(directory: Path) -> CheckpointFormat | None:
    return next((kind for name, kind in _WEIGHT_FILES.items() if any(directory.glob(name))), None)


def _find_on_hub(repository: str, offline: bool | None) -> tuple[CheckpointLocation | None, list[str]]:
    """The location in the hub cache or on the hub; None with the reasons if it is in neither."""
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    try:
        for name in _WEIGHT_FILES:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str) and _detect_format(Path(cached).parent):
                return locate_checkpoint(Path(cached).parent, f"{repository} (hub cache)"), []
    except ValueError:  # not a valid repository name
        return None, ["not a hub name"]
    attempts = ["not in the hub cache"]
    if constants.HF_HUB_OFFLINE if offline is None else offline:
        return None, [*attempts, "hub not searched (offline)"]
    logger.info("downloading %s from the hub", repository)
    try:
        snapshot = Path(snapshot_download(repository, allow_patterns=_DOWNLOAD_PATTERNS))
        if _detect_format(snapshot) is None:
            patterns = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]
            snapshot = Path(snapshot_download(repository, allow_patterns=[*_CONFIG_FILES, *patterns]))
    except Exception as error:  # each network library raises its own
        logger.debug("hub", exc_info=True)
        return None, [*attempts, f"download of {repository} from the hub failed ({type(error).__name__})"]
    return locate_checkpoint(snapshot, f"{repository} (hub)"), []
