"""Reads Hugging Face directories: `config.json`, `model.safetensors` (single or sharded), tokenizer, generation config.

`pytorch_model.bin` is read if there are no safetensors. `huggingface_writer` writes them.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import (
    HUGGINGFACE,
    TensorSource,
    TorchValue,
    assemble_state_dict,
    state_dict_source,
)
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import build_tokenizer_json, check_vocab_size, default_generation_config
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig, default_alignment_heads
from whisperstill.records.json_value import JsonObject, JsonValue
from whisperstill.records.serialization import from_dict

MANIFEST_FILE = "whisperstill.json"
"""Origin and hash of the weights; the last file written."""
FORMAT_VERSION = 2
"""Format of the manifest."""


def is_unfinished(directory: Path) -> bool:
    """Whether a checkpoint was only partly written into `directory`."""
    try:
        return bool((read_json(directory / MANIFEST_FILE) or {}).get("unfinished"))
    except CheckpointError:
        return False


def load_torch_file(path: Path) -> Mapping[str, TorchValue]:
    """Loads a file of `torch.save`, memory-mapped and without running code.

    Raises `CheckpointError` if it is damaged or contains more than tensors.
    """
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files older than the zip format cannot be memory-mapped
            content = torch.load(path, map_location="cpu", weights_only=True)
        return content if isinstance(content, Mapping) else {}
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path.name} is truncated, damaged or not only weights; download it again") from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Memory-mapped tensors of a safetensors file. Raises `CheckpointError` if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is truncated or damaged ({error}); download it again") from error


def read_huggingface(
    directory: Path, source: str, dtype: torch.dtype | None = torch.float32, weights: TensorSource | None = None
) -> Checkpoint:
    """Reads a Hugging Face directory, with `weights` in place of its own if given.

    Raises `CheckpointError` if files are missing, damaged, not Whisper, of other shapes, or of an older format.
    """
    manifest = read_json(directory / MANIFEST_FILE) or {}
    check_format(manifest, directory / MANIFEST_FILE)
    if manifest.get("unfinished"):
        raise CheckpointError("the checkpoint was only partly written; run the command that wrote it again")
    config = read_json(directory / "config.json")
    if config is None:
        raise CheckpointError("expected a config.json beside the weights")
    dims = _parse_dims(config)
    tokenizer_json = _read_tokenizer(directory)
    check_vocab_size(tokenizer_json, dims, "tokenizer.json")
    settings = read_json(directory / "generation_config.json") or config
    generation_config = _parse_generation_config(settings, tokenizer_json, dims)
    state = assemble_state_dict(weights or _open_weights(directory), HUGGINGFACE, dims, dtype)
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return Checkpoint(dims, state, generation_config, tokenizer_json, source, metadata)


def check_format(manifest: Mapping[str, JsonValue], path: Path) -> None:
    """Raises `CheckpointError` if the manifest has an older format."""
    if manifest.get("format") in range(1, FORMAT_VERSION):
        raise CheckpointError(
            f"{path} was written before 0.1.0 (format {manifest['format']}, expected {FORMAT_VERSION}): make it again;"
            " see docs/glossary.md, Renamed"
        )


def _open_weights(directory: Path) -> TensorSource:
    for name, load in (
        ("model.safetensors", load_safetensors),
        ("model.safetensors.index.json", load_safetensors),
        ("pytorch_model.bin.index.json", load_torch_file),
        ("pytorch_model.bin", load_torch_file),
    ):
        path = directory / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return state_dict_source(load(path), name)
        weight_map = (read_json(path) or {}).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{name} has no weight_map; download it again")
        shards = sorted(set(weight_map.values()))
        missing = [shard for shard in shards if not (directory / shard).is_file()]
        if missing:
            raise CheckpointError(f"{name} lists {len(shards)} files; download the missing {', '.join(missing)}")
        return state_dict_source(
            {key: tensor for shard in shards for key, tensor in load(directory / shard).items()}, name
        )
    raise CheckpointError("expected model.safetensors, model.safetensors.index.json or pytorch_model.bin")


def _parse_dims(config: JsonObject) -> Dims:
    if (model_type := config.get("model_type")) != "whisper":
        raise CheckpointError(f"config.json is not of a Whisper model: expected model_type whisper, got {model_type}")
    dims = HUGGINGFACE.parse_dims(config, "config.json")
    expected_values = {
        "encoder_ffn_dim": 4 * dims.width,
        "decoder_ffn_dim": 4 * dims.width,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
    for key, value in expected_values.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"config.json: expected {key} {value} as in every Whisper, got {config[key]}")
    return dims


def _read_tokenizer(directory: Path) -> bytes:
    if (path := directory / "tokenizer.json").is_file():
        return path.read_bytes()
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        return build_tokenizer_json(directory)
    raise CheckpointError(
        "expected tokenizer.json, or vocab.json with merges.txt, beside the weights;"
        " copy those of the model it was trained from"
    )


def _parse_generation_config(values: JsonObject, tokenizer_json: bytes, dims: Dims) -> GenerationConfig:
    stored = {key: value for key, value in values.items() if value is not None and value != ""}
    if not {"suppress_tokens", "begin_suppress_tokens"} <= stored.keys():
        default = default_generation_config(tokenizer_json, dims)
        stored["suppress_tokens"] = default.suppress_tokens
        stored["begin_suppress_tokens"] = default.begin_suppress_tokens
    stored["alignment_heads"] = stored.get("alignment_heads") or default_alignment_heads(dims)
    try:
        generation_config = from_dict(GenerationConfig, stored)
    except ValueError as error:
        raise CheckpointError("generation_config.json is damaged; download it again") from error
    return replace(generation_config, language=(generation_config.language or "").strip("<|>") or None)


def read_json(path: Path) -> JsonObject | None:
    """The JSON object in a file; None if there is no such file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path.name} is damaged: not JSON; download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is damaged: expected an object; download it again")
    return content
