"""CTranslate2 checkpoints (`model.bin`, `config.json`, `tokenizer.json`), as faster-whisper reads them.

`model.bin`, little-endian, binary versions 4 to 6:

    uint32 version, string spec, uint32 revision
    uint32 variables, each: string name, uint8 rank, uint32 sizes[rank], uint8 type, uint32 bytes, data
    uint32 aliases, each: string alias, string name           (string: uint16 length with the final 0, characters)

The file may be split into `model.bin.part1`, `model.bin.part2`, ..., in one directory or several. Data stays on disk:
`ModelFile` reads the table of variables and skips the data; `load` reads one tensor.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import CTRANSLATE2, TensorSource, assemble_state_dict
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import check_vocab_size, default_generation_config
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig, default_alignment_heads
from whisperstill.records.serialization import from_dict

_DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
_SUPPORTED_VERSIONS = range(4, 7)
_LAYER_NAME = re.compile(r"(encoder|decoder)/layer_(\d+)/")
_PART_NAME = re.compile(r"model\.bin\.part(\d+)")


class _MultiFileReader:
    """Reads several files as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.display_name = " + ".join(path.name for path in paths)
        self.sizes = [path.stat().st_size for path in paths]
        self.offset = 0

    def read(self, num_bytes: int) -> bytearray:
        """The next `num_bytes` bytes; `CheckpointError` if the file ends earlier."""
        start = self.skip(num_bytes)
        data, file_start = bytearray(num_bytes), 0
        for path, size in zip(self.paths, self.sizes, strict=True):
            first, last = max(start - file_start, 0), min(self.offset - file_start, size)
            if first < last:
                with path.open("rb") as file:
                    file.seek(first)
                    view = memoryview(data)[file_start + first - start : file_start + last - start]
                    if file.readinto(view) != last - first:
                        raise CheckpointError(f"{path.name} was truncated while it was read")
            file_start += size
        return data

    def skip(self, num_bytes: int) -> int:
        """Skips `num_bytes` bytes and returns their offset; `CheckpointError` if the file ends earlier."""
        start, self.offset = self.offset, self.offset + num_bytes
        if self.offset > sum(self.sizes):
            raise CheckpointError(
                f"{self.display_name} is truncated or damaged: expected at least {self.offset} bytes,"
                f" got {sum(self.sizes)}; download it again"
            )
        return start

    def read_uint(self, format_char: str) -> int:
        """An unsigned integer; `B`, `H` or `I` as in `struct`."""
        value: int = struct.unpack(f"<{format_char}", self.read(struct.calcsize(f"<{format_char}")))[0]
        return value

    def read_string(self) -> str:
        try:
            return self.read(self.read_uint("H")).rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.display_name} is damaged; download it again") from error


@dataclass(frozen=True, slots=True)
class _Variable:
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    num_bytes: int


class ModelFile:
    """Variables of a `model.bin`; `load` reads one from disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Reads the table of variables. Raises `CheckpointError` if it is damaged or not a Whisper model."""
        # 1. Header.
        self._reader = reader = _MultiFileReader(paths)
        self.display_name = reader.display_name
        version = reader.read_uint("I")
        if version not in _SUPPORTED_VERSIONS:
            raise CheckpointError(
                f"{reader.display_name} is not a CTranslate2 model of a supported version: expected"
                f" {_SUPPORTED_VERSIONS.start} to {_SUPPORTED_VERSIONS.stop - 1}, got {version};"
                " convert the model again with a current CTranslate2"
            )
        if (spec := reader.read_string()) != "WhisperSpec":
            raise CheckpointError(f"{reader.display_name} is not Whisper: expected a WhisperSpec, got {spec}")
        reader.read_uint("I")  # revision: its changes show in the variables
        # 2. Variables, then aliases of variables.
        self._variables = dict(self._read_variable() for _ in range(reader.read_uint("I")))
        for _ in range(reader.read_uint("I")):
            alias, name = reader.read_string(), reader.read_string()
            if name not in self._variables:
                raise CheckpointError(f"{reader.display_name} is damaged: {alias} stands for {name}, which is missing")
            self._variables[alias] = self._variables[name]
        # 3. The file must end here.
        if reader.offset != sum(reader.sizes):
            raise CheckpointError(
                f"{reader.display_name} is damaged: expected {reader.offset} bytes, got {sum(reader.sizes)};"
                " download it again"
            )

    def _read_variable(self) -> tuple[str, _Variable]:
        reader = self._reader
        name = reader.read_string()
        shape = tuple(reader.read_uint("I") for _ in range(reader.read_uint("B")))
        dtype_index, num_bytes = reader.read_uint("B"), reader.read_uint("I")
        if dtype_index >= len(_DTYPES):
            raise CheckpointError(f"{reader.display_name}: {name} has the unknown dtype {dtype_index}")
        if prod(shape) * _DTYPES[dtype_index].itemsize != num_bytes:
            raise CheckpointError(f"{reader.display_name} is damaged: {name} ({list(shape)}) has {num_bytes} bytes")
        return name, _Variable(shape, _DTYPES[dtype_index], reader.skip(num_bytes), num_bytes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor, aliases included, scalars not."""
        return {name: variable.shape for name, variable in self._variables.items() if variable.shape}

    def read_scalar(self, name: str) -> int | None:
        """An integer setting stored as a variable; None if it is missing."""
        return int(self._read_tensor(self._variables[name]).item()) if name in self._variables else None

    def load(self, name: str) -> Tensor:
        """One tensor in its stored dtype; int8 and int16 weights are dequantised to float32."""
        tensor = self._read_tensor(self._variables[name])
        if tensor.is_floating_point():
            return tensor
        if f"{name}_scale" not in self._variables:
            raise CheckpointError(f"{self.display_name}: {name} is quantised and has no scale; convert the model again")
        scale = self._read_tensor(self._variables[f"{name}_scale"]).float()
        return tensor.float() / scale.reshape(scale.shape + (1,) * (tensor.ndim - scale.ndim))

    def _read_tensor(self, variable: _Variable) -> Tensor:
        self._reader.offset = variable.offset
        return torch.frombuffer(self._reader.read(variable.num_bytes), dtype=variable.dtype).reshape(variable.shape)


def read_ctranslate2(directories: Sequence[Path], source: str, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """Reads a CTranslate2 model from one directory, or its parts from several.

    Raises `CheckpointError` if files are missing, damaged, not Whisper, or of other shapes.
    """
    model_file = ModelFile(find_model_files(directories))
    dims = _read_dims(model_file)
    tokenizer_json = _read_first_existing(directories, "tokenizer.json")
    if tokenizer_json is None:
        raise CheckpointError(
            f"expected tokenizer.json beside {model_file.display_name}, found none; copy the one of this model there"
        )
    check_vocab_size(tokenizer_json, dims, model_file.display_name)
    generation_config = _parse_generation_config(_read_first_existing(directories, "config.json"), tokenizer_json, dims)
    source_tensors = TensorSource(model_file.display_name, model_file.shapes(), model_file.load)
    state = assemble_state_dict(source_tensors, CTRANSLATE2, dims, dtype)
    return Checkpoint(dims, state, generation_config, tokenizer_json, source)


def find_model_files(directories: Sequence[Path]) -> list[Path]:
    """`model.bin`, or all its parts in order; `CheckpointError` if it or a part is missing."""
    for directory in directories:
        if (directory / "model.bin").is_file():
            return [directory / "model.bin"]
    parts = {
        int(match[1]): path
        for directory in directories
        for path in sorted(directory.iterdir())
        if (match := _PART_NAME.fullmatch(path.name))
    }
    if not parts:
        raise CheckpointError("expected model.bin or model.bin.part1, part2, ..., found neither")
    missing = [f"model.bin.part{number}" for number in range(1, max(parts) + 1) if number not in parts]
    if missing:
        raise CheckpointError(f"expected all parts of model.bin, {', '.join(missing)} is missing; download it again")
    return [parts[number] for number in sorted(parts)]


def _read_dims(model_file: ModelFile) -> Dims:
    shapes = model_file.shapes()
    try:
        width, mels, _ = shapes["encoder/conv1/weight"]
        vocab, _ = shapes["decoder/embeddings/weight"]
        positions, _ = shapes["encoder/position_encodings/encodings"]
        tokens, _ = shapes["decoder/position_encodings/encodings"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{model_file.display_name} lacks convolutions or embeddings of Whisper") from error
    matches = [match for name in shapes if (match := _LAYER_NAME.match(name))]
    num_layers = {
        stack: 1 + max((int(match[2]) for match in matches if match[1] == stack), default=-1)
        for stack in ("encoder", "decoder")
    }
    return Dims(
        mels=mels,
        vocab_size=vocab,
        width=width,
        # Heads are not stored in revision 1; the head size is 64 in every Whisper.
        encoder_heads=model_file.read_scalar("encoder/num_heads") or width // 64,
        encoder_layers=num_layers["encoder"],
        decoder_heads=model_file.read_scalar("decoder/num_heads") or width // 64,
        decoder_layers=num_layers["decoder"],
        max_source_positions=positions,
        max_target_positions=tokens,
    )


def _read_first_existing(directories: Sequence[Path], name: str) -> bytes | None:
    return next(((directory / name).read_bytes() for directory in directories if (directory / name).is_file()), None)


def _parse_generation_config(config: bytes | None, tokenizer_json: bytes, dims: Dims) -> GenerationConfig:
    try:
        values = json.loads(config) if config else {}
        if not {"suppress_ids", "suppress_ids_begin"} <= values.keys():
            return default_generation_config(tokenizer_json, dims)
        stored = {
            "suppress_tokens": values["suppress_ids"] or (),
            "begin_suppress_tokens": values["suppress_ids_begin"] or (),
            "alignment_heads": values.get("alignment_heads") or default_alignment_heads(dims),
        }
        return from_dict(GenerationConfig, stored)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError("config.json beside model.bin is damaged; download it again") from error
