"""`export`: write a model for another engine, as a Hugging Face directory, or as a delta of its teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError

DEFAULT_DTYPES = {"huggingface": "float32", "delta": "float32", "ctranslate2": "float32", "whisper.cpp": "float16"}
"""Default dtype of each format."""


@dataclass(frozen=True)
class ExportSettings:
    """Write a model in another format."""

    model: str
    """Model: name or directory; a delta is combined with its teacher."""
    output: Path
    """Output directory; for whisper.cpp the file."""
    format: Literal["huggingface", "delta", "ctranslate2", "whisper.cpp"]
    """Format: `huggingface` for transformers and vLLM; `ctranslate2` for faster-whisper; `delta` leaves out the weights
    shared with the teacher."""
    dtype: str | None = None
    """Dtype of the weights. huggingface: float32, float16, bfloat16; ctranslate2: float32, float16, int8_float32, ...;
    whisper.cpp: float16, float32 (default: the first of each); delta: float32."""
    teacher: str | None = None
    """Teacher of the delta: the name or path that readers load it by."""


@dataclass(frozen=True)
class ExportReport:
    """The written file."""

    output: str
    format: str
    dtype: str
    bytes: int
    """Size of the weights file."""


def run(settings: ExportSettings, console: Console = SILENT) -> ExportReport:
    """Writes a model in another format.

    Raises `SettingsError`, `NotFoundError`, `CheckpointError`, and `MissingExtraError` without CTranslate2.
    """
    dtype = settings.dtype or DEFAULT_DTYPES[settings.format]
    if (settings.format == "delta") != (settings.teacher is not None):
        raise SettingsError("--format delta needs --teacher, and no other format takes it")

    import torch

    from whisperstill.model.checkpoints import load_checkpoint, write_delta, write_huggingface

    output = settings.output
    if settings.format != "whisper.cpp" and output.exists() and not output.is_dir():
        raise SettingsError(f"output must be a directory, but {output} is a file")
    if settings.format == "huggingface":
        dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
        if dtype not in dtypes:
            raise SettingsError(f"expected dtype {', '.join(dtypes)} for huggingface, got {dtype!r}")
        weights_file = write_huggingface(load_checkpoint(settings.model, dtypes[dtype]), output) / "model.safetensors"
    elif settings.teacher is not None:  # a delta
        if dtype != "float32":
            raise SettingsError(f"expected dtype float32 for a delta, got {dtype!r}")
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
