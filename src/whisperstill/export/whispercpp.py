"""Writes whisper.cpp's model file: one `ggml-*.bin` with sizes, mel filters, vocabulary and weights.

Little-endian:

    uint32 magic, int32 sizes[11]             (see `_header_sizes`; the last: dtype of matrices)
    int32 mels, int32 bins, float32 bands[mels][bins]
    int32 tokens, each: uint32 bytes, data    text tokens only; whisper.cpp derives the special ones
    tensors to the end of the file, each: int32 rank, int32 name bytes, int32 type, int32 sizes[rank] (the last
    dimension first), name, data

Names are those of openai/whisper. Vectors and positional embeddings are always float32; the bias of a convolution is a
column. There is no key bias. Other behaviour is whisper.cpp's own: it suppresses annotations only with `suppress_nst`,
keeps its KV cache in float16, and treats a model with two decoder layers (except with large-v3's vocabulary) as a
student without timestamps.
The trap: whisper.cpp 1.8.5 (ggml 0.13) loads float32 files and then aborts at the first convolution, which it
implements for float16 kernels only (ggml-org/whisper.cpp issue 2557); later versions of ggml do not abort. Write
float16 unless your version supports float32.
Source: `whisper_model_load` in ggml-org/whisper.cpp 1.8, src/whisper.cpp.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from whisperstill.atomic_io import atomic_write_path
from whisperstill.audio.mel import mel_filters
from whisperstill.errors import CheckpointError, SettingsError
from whisperstill.model.checkpoints.assemble import OPENAI, split_state_dict
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import check_vocab_size
from whisperstill.model.dims import Dims
from whisperstill.text.tokenizer import Tokenizer

MAGIC = 0x67676D6C
DTYPES = {"float32": 0, "float16": 1}
"""Dtype of matrices -> its number in the file."""
_NUMPY_DTYPES = ("<f4", "<f2")


def write_whispercpp(checkpoint: Checkpoint, path: Path, dtype: str = "float16") -> Path:
    """Writes a model file for whisper.cpp atomically; returns `path`.

    `float32` stores weights exactly; `float16` rounds matrices, as in the files that whisper.cpp publishes. Raises
    `SettingsError` for another dtype, `CheckpointError` for a tokenizer of another vocabulary and for weights that
    overflow the dtype.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected dtype {', '.join(DTYPES)} for whisper.cpp, got {dtype!r}")
    check_vocab_size(checkpoint.tokenizer_json, checkpoint.dims, checkpoint.source)
    tokenizer = Tokenizer.from_bytes(checkpoint.tokenizer_json, checkpoint.dims.vocab_size)
    with atomic_write_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<I11i", MAGIC, *_header_sizes(checkpoint.dims), DTYPES[dtype]))
        bands = mel_filters(checkpoint.dims.mels).numpy()
        file.write(struct.pack("<2i", *bands.shape) + bands.astype("<f4").tobytes())
        file.write(struct.pack("<i", tokenizer.vocabulary.end_of_text))
        for token in range(tokenizer.vocabulary.end_of_text):  # empty if the tokenizer does not define it
            content = tokenizer.token_bytes(token)
            file.write(struct.pack("<I", len(content)) + content)
        for name, tensor in split_state_dict(checkpoint.state, OPENAI).items():
            is_column = ".conv" in name and name.endswith(".bias")
            _write_tensor(file, name, tensor[:, None] if is_column else tensor, DTYPES[dtype])
    return path


def _header_sizes(dims: Dims) -> tuple[int, ...]:
    encoder = (dims.max_source_positions, dims.width, dims.encoder_heads, dims.encoder_layers)
    decoder = (dims.max_target_positions, dims.width, dims.decoder_heads, dims.decoder_layers)
    return (dims.vocab_size, *encoder, *decoder, dims.mels)


def _write_tensor(file: BinaryIO, name: str, tensor: Tensor, matrix_dtype_id: int) -> None:
    is_matrix = tensor.ndim > 1 and name.endswith(".weight")
    dtype_id = matrix_dtype_id if is_matrix else 0
    values = tensor.to(torch.float32).numpy()
    with np.errstate(over="ignore"):
        converted = values.astype(_NUMPY_DTYPES[dtype_id])
    if not np.isfinite(converted).all():
        raise CheckpointError(
            f"{name} holds values up to {np.abs(values).max():g}, more than float16 can store: write it as float32"
            if np.isfinite(values).all()
            else f"{name} holds values that are not finite: the weights are damaged"
        )
    encoded = name.encode()
    header = (converted.ndim, len(encoded), dtype_id, *reversed(converted.shape))
    file.write(struct.pack(f"<{len(header)}i", *header) + encoded)
    file.write(np.ascontiguousarray(converted).data)
