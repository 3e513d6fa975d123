"""`export`: a model in the form that somebody needs: for another engine, whole, or without what its teacher has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.console import Console
from whisperstill.errors import SettingsError

DEFAULT_DTYPES = {"huggingface": "float32", "delta": "float32", "ctranslate2": "float32", "whisper.cpp": "f16"}
"""The type that each format is written in unless another one is named."""


@dataclass(frozen=True)
class ExportSettings:
    """What is written where."""

    model: str
    """Name or directory of the model; a delta is put together with its teacher."""
    output: Path
    """Directory, or for whisper.cpp the file."""
    format: Literal["huggingface", "delta", "ctranslate2", "whisper.cpp"]
    """`huggingface` is whole, for transformers and vLLM; `ctranslate2` for faster-whisper; `delta` leaves out what the
    teacher has."""
    dtype: str | None = None
    """Type of the weights. huggingface: float32, float16, bfloat16; ctranslate2: float32, float16, int8_float32, ...;
    whisper.cpp: f16, f32 (default: the first of each); delta: float32."""
    teacher: str | None = None
    """The delta's teacher, by the name that it is to be found by."""


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    output: str
    format: str
    dtype: str
    bytes: int
    """Size of the weights' file."""


def run(settings: ExportSettings, console: Console) -> ExportReport:
    """Write a model in another form.

    Raises `SettingsError`, `NotFoundError`, `CheckpointError`, and `MissingExtraError` without CTranslate2.
    """
    dtype = settings.dtype or DEFAULT_DTYPES[settings.format]
    if (settings.format == "delta") != (settings.teacher is not None):
        raise SettingsError("--teacher belongs to --format delta, which needs it")

    import torch

    from whisperstill.model.checkpoints import load_checkpoint, write_delta, write_huggingface

    output = settings.output
    if settings.format != "whisper.cpp" and output.exists() and not output.is_dir():
        raise SettingsError(f"output must be a directory, but {output} is a file")
    if settings.format == "huggingface":
        dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
        if dtype not in dtypes:
            raise SettingsError(f"expected a type out of {', '.join(dtypes)} for huggingface, got {dtype!r}")
        weights_file = write_huggingface(load_checkpoint(settings.model, dtypes[dtype]), output) / "model.safetensors"
    elif settings.format == "delta":
        assert settings.teacher is not None
        if dtype != "float32":
            raise SettingsError(f"a delta is float32, so that it is exact, got {dtype!r}")
        student, teacher = load_checkpoint(settings.model), load_checkpoint(settings.teacher)
        weights_file = write_delta(student, teacher, settings.teacher, output) / "delta.safetensors"
    elif settings.format == "ctranslate2":
        from whisperstill.export.ctranslate2 import write_ctranslate2

        weights_file = write_ctranslate2(load_checkpoint(settings.model), output, dtype) / "model.bin"
    else:
        from whisperstill.export.whispercpp import write_whispercpp

        weights_file = write_whispercpp(load_checkpoint(settings.model), output, dtype)
    size = weights_file.stat().st_size
    console.info(f"{weights_file}: {size / 1e6:.1f} MB, {dtype}")
    return ExportReport(str(output), settings.format, dtype, size)
