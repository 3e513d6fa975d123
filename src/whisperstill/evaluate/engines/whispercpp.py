"""whisper.cpp through pywhispercpp: ggml files, converted by us or published by its authors, on the CPU.

Weights and KV cache are float16, so near ties may be decided differently than in float32. Non-speech tokens are
suppressed as in the other engines. Long recordings: sequential windows, not conditioned on previous text.

Pitfalls. whisper.cpp 1.8.5 loads float32 files but aborts the process when it decodes (see `export.whispercpp`); they
are refused here. Audio under 0.1 s gives no text. A file that cannot be loaded gives a model that aborts the process
when it is used, so the log of the loader is checked.
"""

import os
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch

from whisperstill.atomic_io import file_sha256
from whisperstill.corpus.loading import Waveform
from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.evaluate.engines.external_engine import EngineFormat, ModelDescription, prepare_checkpoint
from whisperstill.export.whispercpp import MAGIC, write_whispercpp
from whisperstill.model.dims import Dims
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import WINDOW_SAMPLES

GGML_FORMAT = EngineFormat("ggml-f16.bin", write_whispercpp)
_HEADER = struct.Struct("<I11i")
_GGML_DTYPES = {0: "float32", 1: "float16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1"}
"""ggml type of most matrices -> dtype name (the thousands are the quantization version)."""
_NO_SPEECH_THRESHOLD_OFF = 1.0
"""No probability exceeds it: no window is skipped as silent."""
_DEFAULT_NO_SPEECH_THRESHOLD = 0.6
"""Default of whisper.cpp."""


class WhisperCpp:
    """A model in whisper.cpp. The dtype is that of the file; checkpoints are converted to float16."""

    device = "cpu"

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.load_engine`."""
        try:
            from pywhispercpp.model import Model
        except ImportError as error:
            raise MissingExtraError("the engine whisper.cpp", "whispercpp") from error
        if device not in ("auto", "cpu"):
            raise SettingsError(f"expected device cpu for whisper.cpp, got {device}")
        if dtype not in ("auto", "float16"):
            raise SettingsError(
                f"expected dtype float16 for whisper.cpp, got {dtype}; pass a ggml file of another type"
            )
        if is_ggml(source):
            path = Path(source).expanduser()
            self.description, self.dtype = read_ggml_header(path)
        else:
            (path, self.description), self.dtype = prepare_checkpoint(source, cache, GGML_FORMAT), "float16"
        self.version = version("pywhispercpp")
        with _capture_stderr() as log:
            self._model: Any = Model(
                str(path),
                context_params={"use_gpu": False},
                n_threads=torch.get_num_threads(),
                print_progress=False,
                temperature_inc=0.0,
                n_max_text_ctx=0,
                suppress_nst=True,
            )
        if any("failed to load" in line for line in log):
            reason = next(line for line in log if "fail" in line or "error" in line.lower())
            raise CheckpointError(f"whisper.cpp cannot load {path} ({reason}); download it again")

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """See `ExternalEngine`. Waveforms are decoded one by one."""
        codes = [self.description.resolve_language(language) for language in languages]
        texts = []
        for waveform, code in zip(waveforms, codes, strict=True):
            segments = self._model.transcribe(
                np.ascontiguousarray(waveform if long_form else waveform[:WINDOW_SAMPLES]),
                language=code or "",  # detected
                no_timestamps=not (long_form and self.description.timestamps),
                single_segment=not long_form,
                no_speech_thold=_DEFAULT_NO_SPEECH_THRESHOLD if long_form else _NO_SPEECH_THRESHOLD_OFF,
            )
            texts.append(" ".join(segment.text for segment in segments).strip())
        return texts


@contextmanager
def _capture_stderr() -> Iterator[list[str]]:
    """Capture file descriptor 2, to which whisper.cpp logs; the list is filled with lines when the block ends."""
    lines: list[str] = []
    sys.stderr.flush()
    with TemporaryFile() as log:
        saved_fd = os.dup(2)
        try:
            os.dup2(log.fileno(), 2)
            yield lines
        finally:
            os.dup2(saved_fd, 2)
            os.close(saved_fd)
            log.seek(0)
            lines += [line.strip() for line in log.read().decode("utf-8", "replace").splitlines()]


def is_ggml(source: str | Path) -> bool:
    """Whether `source` is a ggml file."""
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == struct.pack("<I", MAGIC)


def read_ggml_header(path: Path) -> tuple[ModelDescription, str]:
    """Description and dtype of the model in a ggml file.

    Raises `CheckpointError` for a damaged file or another model than Whisper, `SettingsError` for float32.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise CheckpointError(f"{path} is truncated; download it again")
    _, vocab, positions, width, heads, layers, tokens, _, text_heads, text_layers, mels, type_ = _HEADER.unpack(header)
    Vocabulary.from_size(vocab)
    dims = Dims(mels, vocab, width, heads, layers, text_heads, text_layers, positions, tokens)
    dtype = _GGML_DTYPES.get(type_ % 1000, f"ggml type {type_ % 1000}")
    if dtype == "float32":
        raise SettingsError(
            f"expected a float16 or quantized ggml file, got float32 in {path} (whisper.cpp 1.8 aborts); export float16"
        )
    return ModelDescription(str(path), file_sha256(path), dims), dtype
