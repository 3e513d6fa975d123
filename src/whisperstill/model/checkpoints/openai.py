"""Checkpoints of openai/whisper: one `.pt` with `dims` and `model_state_dict`, without tokenizer and settings."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

import torch

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints.assemble import OPENAI, assemble_state_dict, state_dict_source
from whisperstill.model.checkpoints.checkpoint import Checkpoint
from whisperstill.model.checkpoints.huggingface import load_torch_file, read_json
from whisperstill.model.checkpoints.packages import WEIGHTS_PACKAGES
from whisperstill.model.checkpoints.tokens import check_vocab_size, default_generation_config, vocabulary_size
from whisperstill.model.dims import Dims


def read_openai(path: Path, source: str, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """Reads a `.pt` file, and the `tokenizer.json` beside it or that of another model with the same vocabulary.

    Raises `CheckpointError` if the file is damaged, not Whisper, of other shapes, or if no tokenizer is found.
    """
    content = load_torch_file(path)
    sizes, weights = content.get("dims"), content.get("model_state_dict")
    if not isinstance(sizes, Mapping) or not isinstance(weights, Mapping):
        raise CheckpointError(f"{path.name} is not a checkpoint of openai/whisper: expected dims and model_state_dict")
    dims = OPENAI.parse_dims(sizes, path.name)
    tokenizer_json = _find_tokenizer(path, dims)
    state = assemble_state_dict(state_dict_source(weights, path.name), OPENAI, dims, dtype)
    return Checkpoint(dims, state, default_generation_config(tokenizer_json, dims), tokenizer_json, source)


def _find_tokenizer(path: Path, dims: Dims) -> bytes:
    if (local_file := path.with_name("tokenizer.json")).is_file():
        content = local_file.read_bytes()
        check_vocab_size(content, dims, path.name)
        return content
    for candidate in _installed_tokenizers():
        with suppress(OSError, CheckpointError):
            content = candidate.read_bytes()
            if vocabulary_size(content) == dims.vocab_size:
                return content
    raise CheckpointError(
        f"{path.name} contains no tokenizer, and no installed model has one of {dims.vocab_size} tokens;"
        " put the tokenizer.json of the same Whisper model beside it"
    )


def _installed_tokenizers() -> list[Path]:
    """`tokenizer.json` files of installed weights packages, then of Whisper models in the hub cache."""
    from huggingface_hub import constants

    paths = list[Path]()
    for package in chain.from_iterable(WEIGHTS_PACKAGES.values()):
        with suppress(PackageNotFoundError):
            if "tokenizer.json" in package.files:
                installed = distribution(package.distribution)
                paths.append(Path(str(installed.locate_file(f"{package.folder}/tokenizer.json"))))
    for config_path in sorted(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")):
        with suppress(OSError, CheckpointError):
            if (read_json(config_path) or {}).get("model_type") == "whisper":
                paths.append(config_path.with_name("tokenizer.json"))
    return paths
