"""Hugging Face directories: `config.json`, `model.safetensors` (single or sharded), a tokenizer, generation settings.

`pytorch_model.bin` is read where no safetensors are. Writing is `huggingface_writer`.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import Naming, assemble, require
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.tokens import check_vocabulary, default_generation, from_vocabulary_files
from whisperstill.model.dims import Dims
from whisperstill.model.generation import Generation, default_alignment_heads

MANIFEST = "whisperstill.json"  # where the weights come from; the last file that is written

NAMING = Naming(
    top={
        "encoder.conv1": "encoder.conv1",
        "encoder.conv2": "encoder.conv2",
        "encoder.positions": "encoder.embed_positions.weight",
        "encoder.norm": "encoder.layer_norm",
        "decoder.embedding": "decoder.embed_tokens",
        "decoder.positions": "decoder.embed_positions.weight",
        "decoder.norm": "decoder.layer_norm",
    },
    layer={
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
    prefix=lambda half, index: f"{half}.layers.{index}.",
    parameter=lambda module, kind: f".{kind}",
)


class _Safetensors:
    """Tensors of one or several safetensors files."""

    _files: dict[str, Any]

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files, self._shapes = {}, dict[str, tuple[int, ...]]()
        for path in paths:
            try:
                file: Any = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path.name} is truncated or damaged ({error}); fetch it again") from error
            for name in file.keys():  # noqa: SIM118 - no mapping
                self._files[name.removeprefix("model.")] = (file, name)
                self._shapes[name.removeprefix("model.")] = tuple(file.get_slice(name).get_shape())
        self.label = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def load(self, name: str) -> Tensor:
        file, stored = self._files[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor


def unfinished(directory: Path) -> bool:
    """Whether writing a checkpoint into `directory` began and did not end."""
    try:
        return bool((_json(directory / MANIFEST) or {}).get("unfinished"))
    except CheckpointError:
        return False


class StateDict:
    """Tensors of a dictionary that `torch.load` gave."""

    def __init__(self, state: Mapping[str, Tensor], label: str) -> None:
        self.label = label
        self._state = {name.removeprefix("model."): tensor for name, tensor in state.items()}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape."""
        return {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def load(self, name: str) -> Tensor:
        """One tensor, in its stored type."""
        return self._state[name]


def torch_load(path: Path) -> Any:
    """What `torch.save` wrote, tensors only and left on the disk; `CheckpointError` when damaged or not only that."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before the zip format cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path.name} is truncated, damaged, or holds more than weights; fetch it again"
        ) from error


def read_huggingface(
    directory: Path, source: str, dtype: torch.dtype | None = torch.float32, weights: StateDict | None = None
) -> Checkpoint:
    """Read a Hugging Face directory; the `weights` from elsewhere where they are given.

    Raises `CheckpointError` when files are missing, truncated, not Whisper, or of other shapes.
    """
    manifest = _json(directory / MANIFEST) or {}
    if manifest.get("unfinished"):
        raise CheckpointError("the checkpoint was not written to its end; run what wrote it again")
    config = _json(directory / "config.json")
    if config is None:
        raise CheckpointError("expected a config.json beside the weights, found none")
    dims = _dims(config)
    tokenizer_json = _tokenizer(directory)
    check_vocabulary(tokenizer_json, dims, "tokenizer.json")
    generation = _generation(_json(directory / "generation_config.json") or config, tokenizer_json, dims)
    state = assemble(
        weights or _weights(directory), NAMING, dims, dtype=dtype, ignore=lambda name: name == "proj_out.weight"
    )
    return Checkpoint(dims, state, generation, tokenizer_json, source, manifest.get("metadata", {}))


def _weights(directory: Path) -> _Safetensors | StateDict:
    if (single := directory / "model.safetensors").is_file():
        return _Safetensors([single])
    for index, read in (("model.safetensors.index.json", None), ("pytorch_model.bin.index.json", torch_load)):
        listing = _json(directory / index)
        if listing is None:
            continue
        if not isinstance(listing.get("weight_map"), dict):
            raise CheckpointError(f"{index} has no weight_map; fetch it again")
        shards = sorted(set(listing["weight_map"].values()))
        missing = [name for name in shards if not (directory / name).is_file()]
        if missing:
            raise CheckpointError(f"{index} lists {len(shards)} files, {', '.join(missing)} is missing; fetch it")
        if read is None:
            return _Safetensors([directory / name for name in shards])
        return StateDict({k: v for name in shards for k, v in read(directory / name).items()}, index)
    if (pickled := directory / "pytorch_model.bin").is_file():
        return StateDict(torch_load(pickled), pickled.name)
    raise CheckpointError("expected model.safetensors, model.safetensors.index.json or pytorch_model.bin, found none")


def _dims(config: Mapping[str, Any]) -> Dims:
    if (kind := config.get("model_type")) != "whisper":
        raise CheckpointError(f"config.json is not Whisper's: expected model_type whisper, got {kind}")
    names = {
        "mels": "num_mel_bins",
        "vocab": "vocab_size",
        "width": "d_model",
        "encoder_heads": "encoder_attention_heads",
        "encoder_layers": "encoder_layers",
        "decoder_heads": "decoder_attention_heads",
        "decoder_layers": "decoder_layers",
        "positions": "max_source_positions",
        "tokens": "max_target_positions",
    }
    values = require(config, names.values(), "config.json")
    dims = Dims(**{ours: values[theirs] for ours, theirs in names.items()})
    fixed = {
        "encoder_ffn_dim": 4 * dims.width,
        "decoder_ffn_dim": 4 * dims.width,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"config.json: expected {key} {value} as in every Whisper, got {config[key]}")
    return dims


def _tokenizer(directory: Path) -> bytes:
    if (path := directory / "tokenizer.json").is_file():
        return path.read_bytes()
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        return from_vocabulary_files(directory)
    raise CheckpointError(
        "expected tokenizer.json, or vocab.json with merges.txt, beside the weights, found neither;"
        " copy those of the model it was trained from"
    )


def _generation(values: Mapping[str, Any], tokenizer_json: bytes, dims: Dims) -> Generation:
    language, task = values.get("language"), values.get("task")
    try:
        if values.get("suppress_tokens") is None or values.get("begin_suppress_tokens") is None:
            default = default_generation(tokenizer_json, dims)
            suppress, begin = default.suppress, default.begin_suppress
        else:
            suppress = tuple(int(token) for token in values["suppress_tokens"])
            begin = tuple(int(token) for token in values["begin_suppress_tokens"])
        heads = values.get("alignment_heads") or default_alignment_heads(dims)
        return Generation(
            suppress=suppress,
            begin_suppress=begin,
            alignment_heads=tuple((int(layer), int(head)) for layer, head in heads),
            language=str(language).strip("<|>") if language else None,
            task=str(task) if task else "transcribe",
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError("generation_config.json is damaged; fetch it again") from error


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path.name} is damaged: not JSON; fetch it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is damaged: expected an object; fetch it again")
    return content
