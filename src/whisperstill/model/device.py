"""Choice of device and of the type of computation."""

import torch

from whisperstill.errors import SettingsError
from whisperstill.model.whisper import best_dtype


def choose_device(name: str) -> str:
    """`auto` -> `cuda` where there is one, else `cpu`. Raises `SettingsError` for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name} is not usable on this machine: use auto, cpu or cuda") from error
    return name


def choose_dtype(name: str, device: str) -> torch.dtype:
    """`auto`, `float32` or `bfloat16` -> a type."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return best_dtype(device) if name == "auto" else dtypes[name]
