"""A checkpoint in the format of a library: used in place if possible, otherwise converted into a cache once.

    <cache>/<sha256 of the weights>/<sha256 of settings and version>/huggingface | ctranslate2-float32 | ggml-f16.bin

Conversions are written under a temporary name and renamed, so that several processes may share a cache.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from whisperstill._version import __version__
from whisperstill.evaluate.engines.external_engine import ModelDescription
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve_checkpoint
from whisperstill.model.checkpoints.huggingface_writer import checkpoint_identity
from whisperstill.model.dims import Dims


@dataclass(frozen=True, slots=True)
class EngineFormat:
    """A file format of a library."""

    name: str
    """File or directory name in the cache."""
    write: Callable[[Checkpoint, Path], Path]
    native_format: str | None = None
    """Checkpoint format that the library opens without conversion."""
    is_complete: Callable[[Path, Dims], bool] = lambda directory, dims: True
    """Whether a directory in the native format has all files that the library needs."""


def prepare_checkpoint(source: str | Path, cache: Path, engine_format: EngineFormat) -> tuple[Path, ModelDescription]:
    """Path and description of a checkpoint in this format. Raises as `load_checkpoint` and `engine_format.write`."""
    location, checkpoint = resolve_checkpoint(source), load_checkpoint(source)
    description, [path, *other_paths] = ModelDescription.from_checkpoint(checkpoint), location.paths
    if (
        location.format == engine_format.native_format
        and not other_paths
        and engine_format.is_complete(path, checkpoint.dims)
    ):
        return path, description
    return convert_checkpoint(checkpoint, cache, engine_format), description


def convert_checkpoint(checkpoint: Checkpoint, cache: Path, engine_format: EngineFormat) -> Path:
    """Path of the checkpoint in the cache, converted unless it is there."""
    settings = json.dumps([__version__, checkpoint_identity(checkpoint)], sort_keys=True)
    target = cache / checkpoint.sha256 / hashlib.sha256(settings.encode()).hexdigest()[:16] / engine_format.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".part", dir=target.parent) as temp_dir:
        written = engine_format.write(checkpoint, Path(temp_dir) / engine_format.name)
        try:
            written.rename(target)
        except OSError:  # another process finished the same conversion
            if not target.exists():
                raise
    return target
