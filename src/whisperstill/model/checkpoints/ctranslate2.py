"""CTranslate2 directories (`model.bin`, `config.json`, `tokenizer.json`): the layout faster-whisper uses.

`model.bin`, little-endian, binary versions 4 to 6:

    uint32 version, string spec, uint32 revision
    uint32 variables, each: string name, uint8 rank, uint32 sizes[rank], uint8 type, uint32 bytes, data
    uint32 aliases, each: string alias, string name           (string: uint16 length with the final 0, characters)

The file may be cut into `model.bin.part1`, `model.bin.part2`, ..., in one directory or over several.
"""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import Naming, assemble
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import check_vocabulary, default_generation
from whisperstill.model.dims import Dims
from whisperstill.model.generation import Generation, default_alignment_heads

_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
_VERSIONS = range(4, 7)
_PART = re.compile(r"model\.bin\.part(\d+)")
_HARMLESS = re.compile(r".*_scale|decoder/projection/(weight|bias)|(encoder|decoder)/(pre|scale|num|alib|align).*")


def _parameter(module: str, kind: str) -> str:
    if module.endswith("norm"):
        return "/gamma" if kind == "weight" else "/beta"
    return f"/{kind}"


NAMING = Naming(
    top={
        "encoder.conv1": "encoder/conv1",
        "encoder.conv2": "encoder/conv2",
        "encoder.positions": "encoder/position_encodings/encodings",
        "encoder.norm": "encoder/layer_norm",
        "decoder.embedding": "decoder/embeddings",
        "decoder.positions": "decoder/position_encodings/encodings",
        "decoder.norm": "decoder/layer_norm",
    },
    layer={
        "attention_norm": ("self_attention/layer_norm",),
        "attention.qkv": ("self_attention/linear_0",),
        "attention.out": ("self_attention/linear_1",),
        "cross_norm": ("attention/layer_norm",),
        "cross.query": ("attention/linear_0",),
        "cross.kv": ("attention/linear_1",),
        "cross.out": ("attention/linear_2",),
        "mlp_norm": ("ffn/layer_norm",),
        "mlp.up": ("ffn/linear_0",),
        "mlp.down": ("ffn/linear_1",),
    },
    prefix=lambda half, index: f"{half}/layer_{index}/",
    parameter=_parameter,
    keys_apart=False,
)


class _Stream:
    """Several files read as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.sizes = [path.stat().st_size for path in paths]
        self.at = 0

    def read(self, count: int) -> bytearray:
        """The next `count` bytes; `CheckpointError` where the file ends before."""
        end = self.at + count
        self._fits(end)
        data, start = bytearray(count), 0
        for path, size in zip(self.paths, self.sizes, strict=True):
            first, last = max(self.at - start, 0), min(end - start, size)
            if first < last:
                with path.open("rb") as file:
                    file.seek(first)
                    into = memoryview(data)[start + first - self.at : start + last - self.at]
                    if file.readinto(into) != last - first:
                        raise CheckpointError(f"{path.name} became shorter while it was read")
            start += size
        self.at = end
        return data

    def skip(self, count: int) -> None:
        """Leave out `count` bytes, which must be there."""
        self._fits(self.at + count)
        self.at += count

    def number(self, kind: str) -> int:
        """One unsigned integer: `B`, `H` or `I`."""
        value: int = struct.unpack(f"<{kind}", self.read(struct.calcsize(f"<{kind}")))[0]
        return value

    def text(self) -> str:
        """One string."""
        try:
            return self.read(self.number("H")).rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.label} is damaged; fetch it again") from error

    @property
    def label(self) -> str:
        """`model.bin`, or its parts."""
        return " + ".join(path.name for path in self.paths)

    def _fits(self, end: int) -> None:
        if end > sum(self.sizes):
            raise CheckpointError(
                f"{self.label} is truncated or damaged: expected at least {end} bytes, got {sum(self.sizes)};"
                " fetch it again"
            )


@dataclass(frozen=True, slots=True)
class _Variable:
    shape: tuple[int, ...]
    dtype: torch.dtype
    at: int
    bytes: int


class ModelFile:
    """The variables of a `model.bin`; the weights stay on the disk until `load` asks for one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the table of variables. `CheckpointError` when it is truncated or not a Whisper of CTranslate2."""
        self._stream = stream = _Stream(paths)
        version = stream.number("I")
        if version not in _VERSIONS:
            raise CheckpointError(
                f"{stream.label} is no CTranslate2 model of a known version: expected {_VERSIONS.start} to"
                f" {_VERSIONS.stop - 1}, got {version}; convert the model again with a present CTranslate2"
            )
        if (spec := stream.text()) != "WhisperSpec":
            raise CheckpointError(f"{stream.label} is not Whisper: expected a WhisperSpec, got {spec}")
        stream.number("I")  # revision: what changed between them is read from the variables themselves
        self._variables = dict(self._variable() for _ in range(stream.number("I")))
        for _ in range(stream.number("I")):
            alias, name = stream.text(), stream.text()
            if name not in self._variables:
                raise CheckpointError(f"{stream.label} is damaged: {alias} stands for {name}, which is not there")
            self._variables[alias] = self._variables[name]
        if stream.at != sum(stream.sizes):
            raise CheckpointError(
                f"{stream.label} is damaged: expected {stream.at} bytes, got {sum(stream.sizes)}; fetch it again"
            )

    def _variable(self) -> tuple[str, _Variable]:
        stream = self._stream
        name = stream.text()
        shape = tuple(stream.number("I") for _ in range(stream.number("B")))
        kind, count = stream.number("B"), stream.number("I")
        if kind >= len(_TYPES):
            raise CheckpointError(f"{stream.label}: {name} has a number type that CTranslate2 {kind} does not define")
        if prod(shape) * _TYPES[kind].itemsize != count:
            raise CheckpointError(f"{stream.label} is damaged: {name} of shape {list(shape)} has {count} bytes")
        variable = _Variable(shape, _TYPES[kind], stream.at, count)
        stream.skip(count)
        return name, variable

    @property
    def label(self) -> str:
        """`model.bin`, or its parts."""
        return self._stream.label

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of all that are no single number; aliases included."""
        return {name: variable.shape for name, variable in self._variables.items() if variable.shape}

    def single(self, name: str) -> int | None:
        """A setting of the network that is stored as a variable; None where it is missing."""
        return int(self._raw(self._variables[name]).item()) if name in self._variables else None

    def load(self, name: str) -> Tensor:
        """One tensor in its stored type; int8 and int16 weights are multiplied out to float32."""
        tensor = self._raw(self._variables[name])
        if tensor.is_floating_point():
            return tensor
        if f"{name}_scale" not in self._variables:
            raise CheckpointError(f"{self.label}: {name} is quantised but has no scale; convert the model again")
        scale = self._raw(self._variables[f"{name}_scale"]).float()
        return tensor.float() / scale.reshape(scale.shape + (1,) * (tensor.ndim - scale.ndim))

    def _raw(self, variable: _Variable) -> Tensor:
        self._stream.at = variable.at
        return torch.frombuffer(self._stream.read(variable.bytes), dtype=variable.dtype).reshape(variable.shape)


def read_ctranslate2(directories: Sequence[Path], source: str, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """Read a CTranslate2 model that lies in one directory, or in parts over several.

    Raises `CheckpointError` when files are missing, truncated, not Whisper, or of other shapes.
    """
    file = ModelFile(model_files(directories))
    dims = _dims(file)
    tokenizer_json = _beside(directories, "tokenizer.json")
    if tokenizer_json is None:
        raise CheckpointError(f"expected tokenizer.json beside {file.label}, found none; copy the model's there")
    check_vocabulary(tokenizer_json, dims, file.label)
    generation = _generation(_beside(directories, "config.json"), tokenizer_json, dims)
    state = assemble(file, NAMING, dims, dtype=dtype, ignore=lambda name: _HARMLESS.fullmatch(name) is not None)
    return Checkpoint(dims, state, generation, tokenizer_json, source)


def model_files(directories: Sequence[Path]) -> list[Path]:
    """`model.bin`, or all its parts in order. `CheckpointError` when there is none or a part is missing."""
    for directory in directories:
        if (directory / "model.bin").is_file():
            return [directory / "model.bin"]
    parts = {
        int(match[1]): path
        for directory in directories
        for path in sorted(directory.iterdir())
        if (match := _PART.fullmatch(path.name))
    }
    if not parts:
        raise CheckpointError("expected model.bin or model.bin.part1, part2, ..., found neither")
    missing = [f"model.bin.part{number}" for number in range(1, max(parts) + 1) if number not in parts]
    if missing:
        raise CheckpointError(f"expected all parts of model.bin, {', '.join(missing)} is missing; fetch it again")
    return [parts[number] for number in sorted(parts)]


def _dims(file: ModelFile) -> Dims:
    shapes = file.shapes()
    try:
        width, mels, _ = shapes["encoder/conv1/weight"]
        vocab, _ = shapes["decoder/embeddings/weight"]
        positions, _ = shapes["encoder/position_encodings/encodings"]
        tokens, _ = shapes["decoder/position_encodings/encodings"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{file.label} lacks the convolutions or embeddings of a Whisper network") from error
    layers = {half: 1 + max(_indices(shapes, half), default=-1) for half in ("encoder", "decoder")}
    return Dims(
        mels=mels,
        vocab=vocab,
        width=width,
        encoder_heads=file.single("encoder/num_heads") or width // 64,  # revision 1 had none: 64 in every Whisper
        encoder_layers=layers["encoder"],
        decoder_heads=file.single("decoder/num_heads") or width // 64,
        decoder_layers=layers["decoder"],
        positions=positions,
        tokens=tokens,
    )


def _indices(shapes: Mapping[str, object], half: str) -> list[int]:
    return [int(match[1]) for name in shapes if (match := re.match(rf"{half}/layer_(\d+)/", name))]


def _beside(directories: Sequence[Path], name: str) -> bytes | None:
    return next(((folder / name).read_bytes() for folder in directories if (folder / name).is_file()), None)


def _generation(config: bytes | None, tokenizer_json: bytes, dims: Dims) -> Generation:
    try:
        values: dict[str, Any] = json.loads(config) if config else {}
        if not {"suppress_ids", "suppress_ids_begin"} <= values.keys():
            return default_generation(tokenizer_json, dims)
        heads = values.get("alignment_heads") or default_alignment_heads(dims)
        return Generation(
            suppress=tuple(int(token) for token in values["suppress_ids"] or ()),
            begin_suppress=tuple(int(token) for token in values["suppress_ids_begin"] or ()),
            alignment_heads=tuple((int(layer), int(head)) for layer, head in heads),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError("config.json beside model.bin is damaged; fetch it again") from error
