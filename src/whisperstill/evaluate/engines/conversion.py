"""A checkpoint in the form that a library opens: as it lies there, or written into a cache, once.

    <cache>/<sha256 of the weights>/<sha256 of settings and version>/huggingface | ctranslate2-float32 | ggml-f16.bin

What is there is whole: it is written under another name and renamed. Who comes second, in this process or another,
finds it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from whisperstill._version import __version__
from whisperstill.evaluate.engines.model_description import ModelDescription
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve_checkpoint
from whisperstill.model.checkpoints.huggingface_writer import checkpoint_identity
from whisperstill.model.dims import Dims


@dataclass(frozen=True, slots=True)
class EngineFormat:
    """A form that a library opens."""

    name: str
    """Of its file or directory in the cache."""
    write: Callable[[Checkpoint, Path], Path]
    native_format: str | None = None
    """The format of a `Location` that may be opened where it lies."""
    is_complete: Callable[[Path, Dims], bool] = lambda directory, dims: True
    """Whether that directory has all the files that the library wants."""


def prepare_checkpoint(source: str | Path, cache: Path, engine_format: EngineFormat) -> tuple[Path, ModelDescription]:
    """Where a checkpoint lies in this form, and what it is. Raises as `load_checkpoint` and `engine_format.write`."""
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
    """The checkpoint in this form, in the cache: written unless it is there."""
    settings = json.dumps([__version__, checkpoint_identity(checkpoint)], sort_keys=True)
    target = cache / checkpoint.sha256 / hashlib.sha256(settings.encode()).hexdigest()[:16] / engine_format.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".part", dir=target.parent) as temp_dir:
        written = engine_format.write(checkpoint, Path(temp_dir) / engine_format.name)
        try:
            written.rename(target)
        except OSError:  # a directory that somebody else finished meanwhile is as good
            if not target.exists():
                raise
    return target
