"""Reads Hugging Face directories: `config.json`, `model.safetensors` (single or sharded), tokenizer, generation config.

`pytorch_model.bin` is read if there are no safetensors. `huggingface_writer` writes them.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import NameMapping, assemble_state_dict, parse_dims
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import build_tokenizer_json, check_vocab_size, default_generation_config
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig, default_alignment_heads
from whisperstill.records.json_value import JsonObject

MANIFEST_FILE = "whisperstill.json"
"""Origin and hash of the weights; the last file written."""
FORMAT_VERSION = 2
"""Format of the manifest."""

TorchContent: TypeAlias = Any
"""What `torch.load` returns."""

NAME_MAPPING = NameMapping(
    top_level={
        "encoder.conv1": "encoder.conv1",
        "encoder.conv2": "encoder.conv2",
        "encoder.positions": "encoder.embed_positions.weight",
        "encoder.norm": "encoder.layer_norm",
        "decoder.embedding": "decoder.embed_tokens",
        "decoder.positions": "decoder.embed_positions.weight",
        "decoder.norm": "decoder.layer_norm",
    },
    per_layer={
        "attention_norm": ("self_attn_layer_norm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.out_proj",),
        "cross_norm": ("encoder_attn_layer_norm",),
        "cross.query": ("encoder_attn.q_proj",),
        "cross.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "cross.out": ("encoder_attn.out_proj",),
        "mlp_norm": ("final_layer_norm",),
        "mlp.up": ("fc1",),
        "mlp.down": ("fc2",),
    },
    layer_prefix=lambda stack, index: f"{stack}.layers.{index}.",
    parameter_suffix=lambda module, kind: f".{kind}",
)


class _SafetensorsSource:
    """Tensors of one or several safetensors files."""

    _handles: dict[str, Any]

    def __init__(self, paths: Sequence[Path]) -> None:
        self._handles, self._shapes = {}, dict[str, tuple[int, ...]]()
        for path in paths:
            try:
                file: Any = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path.name} is truncated or damaged ({error}); download it again") from error
            for name in file.keys():  # noqa: SIM118 - not a mapping
                self._handles[name.removeprefix("model.")] = (file, name)
                self._shapes[name.removeprefix("model.")] = tuple(file.get_slice(name).get_shape())
        self.display_name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def load(self, name: str) -> Tensor:
        handle, stored_name = self._handles[name]
        tensor: Tensor = handle.get_tensor(stored_name)
        return tensor


def is_unfinished(directory: Path) -> bool:
    """Whether a checkpoint was only partly written into `directory`."""
    try:
        return bool((_read_json(directory / MANIFEST_FILE) or {}).get("unfinished"))
    except CheckpointError:
        return False


class StateDictSource:
    """Tensors of a state dict in memory."""

    def __init__(self, state: Mapping[str, Tensor], display_name: str) -> None:
        self.display_name = display_name
        self._state = {name.removeprefix("model."): tensor for name, tensor in state.items()}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape."""
        return {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def load(self, name: str) -> Tensor:
        """One tensor in its stored dtype."""
        return self._state[name]


def load_torch_file(path: Path) -> TorchContent:
    """Loads a file of `torch.save`, memory-mapped and without running code.

    Raises `CheckpointError` if it is damaged or contains more than tensors.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files older than the zip format cannot be memory-mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path.name} is truncated, damaged or not only weights; download it again") from error


def read_huggingface(
    directory: Path, source: str, dtype: torch.dtype | None = torch.float32, weights: StateDictSource | None = None
) -> Checkpoint:
    """Reads a Hugging Face directory, with `weights` in place of its own if given.

    Raises `CheckpointError` if files are missing, damaged, not Whisper, of other shapes, or of an older format.
    """
    manifest = _read_json(directory / MANIFEST_FILE) or {}
    check_format(manifest, directory / MANIFEST_FILE)
    if manifest.get("unfinished"):
        raise CheckpointError("the checkpoint was only partly written; run the command that wrote it again")
    config = _read_json(directory / "config.json")
    if config is None:
        raise CheckpointError("expected a config.json beside the weights")
    dims = _parse_dims(config)
    tokenizer_json = _read_tokenizer(directory)
    check_vocab_size(tokenizer_json, dims, "tokenizer.json")
    settings = _read_json(directory / "generation_config.json") or config
    generation_config = _parse_generation_config(settings, tokenizer_json, dims)
    state = assemble_state_dict(
        weights or _open_weights(directory),
        NAME_MAPPING,
        dims,
        dtype=dtype,
        ignore=lambda name: name == "proj_out.weight",
    )
    return Checkpoint(dims, state, generation_config, tokenizer_json, source, manifest.get("metadata", {}))


def check_format(manifest: JsonObject, path: Path) -> None:
    """Raises `CheckpointError` if the manifest has an older format."""
    if manifest.get("format") in range(1, FORMAT_VERSION):
        raise CheckpointError(
            f"{path} was written before 0.1.0 (format {manifest['format']}, expected {FORMAT_VERSION}): make it again;"
            " see docs/glossary.md, Renamed"
        )


def _open_weights(directory: Path) -> _SafetensorsSource | StateDictSource:
    if (single_file := directory / "model.safetensors").is_file():
        return _SafetensorsSource([single_file])
    for index_name, read_shard in (
        ("model.safetensors.index.json", None),
        ("pytorch_model.bin.index.json", load_torch_file),
    ):
        weight_index = _read_json(directory / index_name)
        if weight_index is None:
            continue
        if not isinstance(weight_index.get("weight_map"), dict):
            raise CheckpointError(f"{index_name} has no weight_map; download it again")
        shards = sorted(set(weight_index["weight_map"].values()))
        missing = [name for name in shards if not (directory / name).is_file()]
        if missing:
            raise CheckpointError(f"{index_name} lists {len(shards)} files; download the missing {', '.join(missing)}")
        if read_shard is None:
            return _SafetensorsSource([directory / name for name in shards])
        return StateDictSource(
            {tensor_name: tensor for name in shards for tensor_name, tensor in read_shard(directory / name).items()},
            index_name,
        )
    if (pickle_file := directory / "pytorch_model.bin").is_file():
        return StateDictSource(load_torch_file(pickle_file), pickle_file.name)
    raise CheckpointError("expected model.safetensors, model.safetensors.index.json or pytorch_model.bin")


def _parse_dims(config: JsonObject) -> Dims:
    if (model_type := config.get("model_type")) != "whisper":
        raise CheckpointError(f"config.json is not of a Whisper model: expected model_type whisper, got {model_type}")
    config_keys = {
        "mels": "num_mel_bins",
        "vocab_size": "vocab_size",
        "width": "d_model",
        "encoder_heads": "encoder_attention_heads",
        "encoder_layers": "encoder_layers",
        "decoder_heads": "decoder_attention_heads",
        "decoder_layers": "decoder_layers",
        "max_source_positions": "max_source_positions",
        "max_target_positions": "max_target_positions",
    }
    dims = parse_dims(config, config_keys, "config.json")
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
    language, task = values.get("language"), values.get("task")
    try:
        if values.get("suppress_tokens") is None or values.get("begin_suppress_tokens") is None:
            default = default_generation_config(tokenizer_json, dims)
            suppress_tokens, begin_suppress_tokens = default.suppress_tokens, default.begin_suppress_tokens
        else:
            suppress_tokens = tuple(int(token) for token in values["suppress_tokens"])
            begin_suppress_tokens = tuple(int(token) for token in values["begin_suppress_tokens"])
        heads = values.get("alignment_heads") or default_alignment_heads(dims)
        return GenerationConfig(
            suppress_tokens=suppress_tokens,
            begin_suppress_tokens=begin_suppress_tokens,
            alignment_heads=tuple((int(layer), int(head)) for layer, head in heads),
            language=str(language).strip("<|>") if language else None,
            task=str(task) if task else "transcribe",
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError("generation_config.json is damaged; download it again") from error


def _read_json(path: Path) -> JsonObject | None:
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
