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
from whisperstill.evaluate.engines.about import About
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve
from whisperstill.model.checkpoints.huggingface_writer import identity
from whisperstill.model.dims import Dims


@dataclass(frozen=True, slots=True)
class Form:
    """A form that a library opens."""

    name: str
    """Of its file or directory in the cache."""
    write: Callable[[Checkpoint, Path], Path]
    format: str | None = None
    """The format of a `Location` that may be opened where it lies."""
    complete: Callable[[Path, Dims], bool] = lambda directory, dims: True
    """Whether that directory has all the files that the library wants."""


def prepared(source: str | Path, cache: Path, form: Form) -> tuple[Path, About]:
    """Where a checkpoint lies in this form, and what it is. Raises as `load_checkpoint` and `form.write`."""
    location, checkpoint = resolve(source), load_checkpoint(source)
    about, [first, *others] = About.of(checkpoint), location.paths
    if location.format == form.format and not others and form.complete(first, checkpoint.dims):
        return first, about
    return converted(checkpoint, cache, form), about


def converted(checkpoint: Checkpoint, cache: Path, form: Form) -> Path:
    """The checkpoint in this form, in the cache: written unless it is there."""
    settings = json.dumps([__version__, identity(checkpoint)], sort_keys=True)
    place = cache / checkpoint.sha256 / hashlib.sha256(settings.encode()).hexdigest()[:16] / form.name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".part", dir=place.parent) as workplace:
        written = form.write(checkpoint, Path(workplace) / form.name)
        try:
            written.rename(place)
        except OSError:  # a directory that somebody else finished meanwhile is as good
            if not place.exists():
                raise
    return place
