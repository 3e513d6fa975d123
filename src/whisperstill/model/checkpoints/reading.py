"""Loads a checkpoint of any format."""

from pathlib import Path

import torch

from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.ctranslate2 import read_ctranslate2
from whisperstill.model.checkpoints.delta import read_delta
from whisperstill.model.checkpoints.huggingface import read_huggingface
from whisperstill.model.checkpoints.openai import read_openai
from whisperstill.model.checkpoints.resolve import CheckpointLocation, locate_checkpoint, resolve_checkpoint


def load_checkpoint(
    name: str | Path, dtype: torch.dtype | None = torch.float32, *, offline: bool | None = None
) -> Checkpoint:
    """Loads a checkpoint by name or path (see `resolve`) on the CPU, as `dtype` (None: as stored).

    Raises `NotFoundError` if there is no such model, `CheckpointError` if it cannot be read.
    """
    return _read_location(resolve_checkpoint(name, offline=offline), dtype)


def read_checkpoint(path: Path | tuple[Path, ...], dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """Reads a local directory or file, or several directories with the parts of one `model.bin`.

    Raises `CheckpointError` if it cannot be read.
    """
    paths = (path,) if isinstance(path, Path) else path
    location = locate_checkpoint(paths[0], paths[0].name)
    return _read_location(CheckpointLocation(location.format, location.paths + paths[1:], location.display_name), dtype)


def _read_location(location: CheckpointLocation, dtype: torch.dtype | None) -> Checkpoint:
    match location.format:
        case "ctranslate2":
            return read_ctranslate2(location.paths, location.display_name, dtype)
        case "huggingface":
            return read_huggingface(location.paths[0], location.display_name, dtype)
        case "delta":
            return read_delta(location.paths[0], location.display_name, dtype, load_checkpoint)
        case "openai":
            return read_openai(location.paths[0], location.display_name, dtype)
