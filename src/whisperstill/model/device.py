"""Choice of device and dtype."""

import torch

from whisperstill.errors import SettingsError
from whisperstill.model.whisper import best_dtype


def choose_device(name: str) -> str:
    """Device by name; `auto` is `cuda` if available, else `cpu`. Raises `SettingsError` for an unusable device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"expected a device that is usable here, got {name}; use auto, cpu or cuda") from error
    return name


def choose_dtype(name: str, device: str) -> torch.dtype:
    """Dtype by name; `auto` is `best_dtype`."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return best_dtype(device) if name == "auto" else dtypes[name]
