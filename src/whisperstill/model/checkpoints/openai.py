"""OpenAI's own files: one `.pt` with `dims` and `model_state_dict`, without tokenizer and without settings."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import Naming, assemble, require
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import StateDict, torch_load
from whisperstill.model.checkpoints.packages import PACKAGES
from whisperstill.model.checkpoints.tokens import check_vocabulary, default_generation, special_tokens
from whisperstill.model.dims import Dims

NAMING = Naming(
    top={
        "encoder.conv1": "encoder.conv1",
        "encoder.conv2": "encoder.conv2",
        "encoder.positions": "encoder.positional_embedding",
        "encoder.norm": "encoder.ln_post",
        "decoder.embedding": "decoder.token_embedding",
        "decoder.positions": "decoder.positional_embedding",
        "decoder.norm": "decoder.ln",
    },
    layer={
        "attention_norm": ("attn_ln",),
        "attention.qkv": ("attn.query", "attn.key", "attn.value"),
        "attention.out": ("attn.out",),
        "cross_norm": ("cross_attn_ln",),
        "cross.query": ("cross_attn.query",),
        "cross.kv": ("cross_attn.key", "cross_attn.value"),
        "cross.out": ("cross_attn.out",),
        "mlp_norm": ("mlp_ln",),
        "mlp.up": ("mlp.0",),
        "mlp.down": ("mlp.2",),
    },
    prefix=lambda half, index: f"{half}.blocks.{index}.",
    parameter=lambda module, kind: f".{kind}",
)
_DIMS = {
    "mels": "n_mels",
    "vocab": "n_vocab",
    "width": "n_audio_state",
    "encoder_heads": "n_audio_head",
    "encoder_layers": "n_audio_layer",
    "decoder_heads": "n_text_head",
    "decoder_layers": "n_text_layer",
    "positions": "n_audio_ctx",
    "tokens": "n_text_ctx",
}


def read_openai(path: Path, source: str, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """Read a `.pt`. The tokenizer comes from `tokenizer.json` beside it, or from another model of the vocabulary.

    Raises `CheckpointError` when it is truncated, not Whisper, of other shapes, or no tokenizer is found.
    """
    content = torch_load(path)
    if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= content.keys():
        raise CheckpointError(f"{path.name} is no Whisper of OpenAI's: expected dims and model_state_dict in it")
    values = require(content["dims"], _DIMS.values(), path.name)
    dims = Dims(**{ours: values[theirs] for ours, theirs in _DIMS.items()})
    tokenizer_json = _tokenizer(path, dims)
    weights: dict[str, Tensor] = content["model_state_dict"]
    state = assemble(StateDict(weights, path.name), NAMING, dims, dtype=dtype, ignore=lambda name: "mask" in name)
    return Checkpoint(dims, state, default_generation(tokenizer_json, dims), tokenizer_json, source)


def _tokenizer(path: Path, dims: Dims) -> bytes:
    if (beside := path.with_name("tokenizer.json")).is_file():
        content = beside.read_bytes()
        check_vocabulary(content, dims, path.name)
        return content
    for candidate in _known_tokenizers():
        try:
            content = candidate.read_bytes()
            if special_tokens(content).vocabulary == dims.vocab:
                return content
        except (OSError, CheckpointError):
            continue
    raise CheckpointError(
        f"{path.name} has no tokenizer inside and no installed model has one of {dims.vocab} tokens;"
        " put the tokenizer.json of the same Whisper model beside it"
    )


def _known_tokenizers() -> list[Path]:
    """`tokenizer.json` of installed weights packages, then of Whisper models in the hub's cache."""
    from huggingface_hub import constants

    found = list[Path]()
    for parts in PACKAGES.values():
        for part in parts:
            try:
                files = distribution(part.distribution)
            except PackageNotFoundError:
                continue
            names = [file.path for file in part.files if file.path.endswith("/tokenizer.json")]
            found += [Path(str(files.locate_file(name))) for name in names]
    cache = Path(constants.HF_HUB_CACHE)
    for config in sorted(cache.glob("models--*/snapshots/*/config.json")) if cache.is_dir() else ():
        try:
            whisper = json.loads(config.read_text("utf-8")).get("model_type") == "whisper"
        except (OSError, ValueError, AttributeError):
            continue
        if whisper:
            found.append(config.with_name("tokenizer.json"))
    return found
