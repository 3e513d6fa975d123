"""whisper.cpp, through pywhispercpp: ggml files, ours or those of its authors, on the CPU.

Weights and caches are f16, so that near ties may go another way than in float32. Annotations are suppressed as in the
others. Long recordings are heard window by window, each from where the one before ended, without the text before it.

The traps: whisper.cpp 1.8.5 loads f32 files and then ends the process (see `export.whispercpp`); they are refused here.
It hears nothing in less than 0.1 s. And a file that it cannot load gives a model which ends the process when it is
used, so what it says while loading is read.
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

from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.evaluate.engines.about import About
from whisperstill.evaluate.engines.conversion import Form, prepared
from whisperstill.evaluate.engines.engine import Waveform
from whisperstill.export.whispercpp import MAGIC, write_whispercpp
from whisperstill.files import file_sha256
from whisperstill.model.dims import Dims
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import WINDOW_SAMPLES

FORM = Form("ggml-f16.bin", write_whispercpp)
_HEADER = struct.Struct("<I11i")
_TYPES = {0: "float32", 1: "float16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1"}
"""ggml's number of the type that most matrices are stored in (thousands are the version of the quantisation)."""
_NEVER = 1.0
"""No probability of silence is above."""
_USUAL = 0.6
"""whisper.cpp's own."""


class WhisperCpp:
    """A model in whisper.cpp. The type is that of the file; what is converted is fp16."""

    name = "whisper.cpp"
    device = "cpu"
    tokens = None

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.engine`."""
        try:
            from pywhispercpp.model import Model
        except ImportError as error:
            raise MissingExtraError("the engine whisper.cpp", "whispercpp") from error
        if device not in ("auto", "cpu"):
            raise SettingsError(f"the engine whisper.cpp computes on the CPU here, got device {device}")
        if dtype not in ("auto", "fp16"):
            raise SettingsError(f"whisper.cpp computes in fp16, got {dtype}; give a ggml file for another type")
        if is_ggml(source):
            path = Path(source).expanduser()
            self.about, self.dtype = read_header(path)
        else:
            (path, self.about), self.dtype = prepared(source, cache, FORM), "float16"
        self.version = version("pywhispercpp")
        with _logged() as log:
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
            raise CheckpointError(f"whisper.cpp cannot load {path} ({reason}); fetch it again")

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long: bool = False
    ) -> list[str]:
        """See `Engine`. One after the other."""
        codes = [self.about.spoken(one) for one in languages]
        texts = []
        for waveform, code in zip(waveforms, codes, strict=True):
            segments = self._model.transcribe(
                np.ascontiguousarray(waveform if long else waveform[:WINDOW_SAMPLES]),
                language=code or "",  # detected
                no_timestamps=not (long and self.about.timestamps),
                single_segment=not long,
                no_speech_thold=_USUAL if long else _NEVER,
            )
            texts.append(" ".join(one.text for one in segments).strip())
        return texts


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What is written to the process's stderr meanwhile, line by line, there when the block has ended: whisper.cpp
    writes to the descriptor, whatever `sys.stderr` is."""
    lines: list[str] = []
    sys.stderr.flush()
    with TemporaryFile() as log:
        kept = os.dup(2)
        try:
            os.dup2(log.fileno(), 2)
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            log.seek(0)
            lines += [line.strip() for line in log.read().decode("utf-8", "replace").splitlines()]


def is_ggml(source: str | Path) -> bool:
    """Whether this is a file of whisper.cpp."""
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == struct.pack("<I", MAGIC)


def read_header(path: Path) -> tuple[About, str]:
    """Which model a ggml file holds, and its type. Raises `CheckpointError` for one that is damaged or no Whisper,
    `SettingsError` for one of f32."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise CheckpointError(f"{path} is truncated; fetch it again")
    _, vocab, positions, width, heads, layers, tokens, _, text_heads, text_layers, mels, kind = _HEADER.unpack(head)
    Vocabulary.of(vocab)
    dims = Dims(mels, vocab, width, heads, layers, text_heads, text_layers, positions, tokens)
    dtype = _TYPES.get(kind % 1000, f"ggml type {kind % 1000}")
    if dtype == "float32":
        raise SettingsError(f"{path} is of f32, which ends whisper.cpp 1.8's process: write this model as f16")
    return About(str(path), file_sha256(path), dims), dtype
