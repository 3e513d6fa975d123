"""Checkpoints of openai/whisper: weights in a `.pt`, tokenizer beside it or from another model."""

from pathlib import Path

import pytest
import torch

from whisperstill.errors import CheckpointError
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, openai, resolve_checkpoint
from whisperstill.model.checkpoints.assemble import _DIMS_KEYS, OPENAI
from whisperstill.model.checkpoints.tokens import default_generation_config


def save(checkpoint: Checkpoint, path: Path) -> Path:
    """The checkpoint as openai/whisper stores it: half precision, projections apart, no bias for the key."""
    state = {}
    for name, tensor in checkpoint.state.items():
        pieces = OPENAI.stored_names(name)
        for piece, part in zip(pieces, tensor.half().chunk(len(pieces)), strict=True):
            if piece is not None:
                state[piece] = part.clone()
    sizes = {key: getattr(checkpoint.dims, field) for field, (_, key) in _DIMS_KEYS.items()}
    torch.save({"dims": {**sizes, "n_text_state": checkpoint.dims.width}, "model_state_dict": state}, path)
    return path


def test_reads_weights_and_the_tokenizer_beside_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = save(checkpoint, tmp_path / "some.pt")
    (tmp_path / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    assert resolve_checkpoint(path).format == resolve_checkpoint(tmp_path).format == "openai"
    read = load_checkpoint(path)
    assert read.dims == checkpoint.dims
    rounded = {name: tensor.half().float() for name, tensor in checkpoint.state.items()}
    torch.testing.assert_close({name: read.state[name] for name in rounded}, rounded, rtol=0, atol=0)
    assert read.generation_config == default_generation_config(checkpoint.tokenizer_json, checkpoint.dims)


def test_uses_the_tokenizer_of_another_model(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(checkpoint, tmp_path / "some.pt")
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(checkpoint.tokenizer_json)
    monkeypatch.setattr(openai, "_installed_tokenizers", lambda: [tmp_path / "gone.json", elsewhere])
    assert load_checkpoint(path).tokenizer_json == checkpoint.tokenizer_json
    monkeypatch.setattr(openai, "_installed_tokenizers", list)
    with pytest.raises(CheckpointError, match=r"no installed model has one of 51865 tokens; put the tokenizer.json"):
        load_checkpoint(path)


def test_tokenizers_of_installed_packages(tiny_en_dir: Path) -> None:
    assert tiny_en_dir / "tokenizer.json" in openai._installed_tokenizers()


def test_damaged_files_are_errors(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = save(checkpoint, tmp_path / "some.pt")
    (tmp_path / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    data = path.read_bytes()
    for size in (0, 100, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r"some.pt is truncated, damaged"):
            load_checkpoint(path)
    torch.save({"model_state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="expected dims and model_state_dict"):
        load_checkpoint(path)
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="whole numbers for n_vocab"):
        load_checkpoint(path)
