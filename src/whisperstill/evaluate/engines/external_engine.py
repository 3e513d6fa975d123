"""Interface of all engines, and their checkpoints: used in place if possible, otherwise converted into a cache once.

    <cache>/<sha256 of the weights>/<sha256 of settings and version>/huggingface | ctranslate2-float32 | ggml-f16.bin

Conversions are written under a temporary name and renamed, so that several processes may share a cache.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, runtime_checkable

from whisperstill._version import __version__
from whisperstill.corpus.loading import Waveform
from whisperstill.decode.whisper_model import resolve_language
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve_checkpoint
from whisperstill.model.checkpoints.huggingface_writer import checkpoint_identity
from whisperstill.model.dims import Dims
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A checkpoint without weights."""

    source: str
    """Model name or path, for display."""
    sha256: str
    """Hash of the weights (`Checkpoint.sha256`); of the file for ggml."""
    dims: Dims
    suppress_tokens: tuple[int, ...] = ()
    """Suppressed tokens of the checkpoint."""
    language: str | None = None
    """Default language of a multilingual model; None: detected."""
    timestamps: bool = True
    """Whether the model predicts timestamps; False for a student that was trained without them."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ModelDescription":
        """The metadata of a checkpoint."""
        config, timestamps = checkpoint.generation_config, checkpoint.metadata.get("trained_with_timestamps")
        source, sha256, dims = checkpoint.source, checkpoint.sha256, checkpoint.dims
        return cls(source, sha256, dims, config.suppress_tokens, config.language, timestamps is not False)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_size(self.dims.vocab_size)

    def resolve_language(self, requested: str | None) -> str | None:
        """Language code to decode with, None to detect it. Raises `SettingsError` for an unsupported language."""
        return resolve_language(requested, self.language, self.vocabulary, self.source)


@runtime_checkable
class ExternalEngine(Protocol):
    """A loaded model; created by `engines.load_engine`."""

    version: str
    """Version of the library."""
    device: str
    """Device: `cpu` or `cuda`."""
    dtype: str
    """Compute type: `float32`, `float16`, `bfloat16`, `int8`, or a ggml quantization such as `q5_0`."""
    description: ModelDescription

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """The stripped transcript of each waveform (16 kHz mono, in [-1, 1]).

        A language is a code, an English name, or None: the checkpoint's default, otherwise detected by the engine.
        Without `long_form` each waveform is one window of at most 30 s (the rest is ignored), batched if the engine
        can. With `long_form` it may have any length and is split by the engine. Raises `SettingsError` for a language
        that the model does not support.
        """


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
    [path, *other_paths] = location.paths
    is_native = location.format == engine_format.native_format and not other_paths
    if not (is_native and engine_format.is_complete(path, checkpoint.dims)):
        path = convert_checkpoint(checkpoint, cache, engine_format)
    return path, ModelDescription.from_checkpoint(checkpoint)


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
