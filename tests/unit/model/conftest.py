"""A tokenizer with Whisper's special tokens and random weights: checkpoints of a few hundred kilobytes."""

import json
from typing import Any

import pytest
import torch

from whisperstill.model.checkpoints import Checkpoint, expected_shapes
from whisperstill.model.checkpoints.shapes import key_rows
from whisperstill.model.dims import Dims
from whisperstill.model.generation import Generation


def make_tokenizer(texts: int, languages: int) -> bytes:
    """Byte-level tokenizer without merges: the bytes, fillers up to `texts`, then the special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    vocab = {letter: index for index, letter in enumerate(letters)}
    vocab |= {f"filler{index}": index for index in range(len(vocab), texts)}
    codes = ["en", "zh", "de", "es"] + [f"x{index}" for index in range(languages - 4)]
    names = ["endoftext", "startoftranscript", *codes, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": texts + index, "content": f"<|{name}|>", **flags} for index, name in enumerate(names)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": ""}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {**model, "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab, "merges": []},
    }
    return json.dumps(content).encode()


def make_checkpoint(dims: Dims, tokenizer_json: bytes, seed: int = 0) -> Checkpoint:
    """Random weights with the key's bias at zero, as every reader gives them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(dims).items():
        state[name] = torch.randn(shape, generator=generator) * 0.05
        if rows := key_rows(name, dims.width):
            state[name][rows] = 0.0
    heads = ((0, 1), (2, 0), (2, 1)) if dims.decoder_layers > 2 else ((0, 0),)
    return Checkpoint(dims, state, Generation((1, 2, 7), (220, 50257), heads), tokenizer_json, "random")


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """Of 51865 tokens, multilingual."""
    return make_tokenizer(50257, 99)


@pytest.fixture(scope="session")
def v3_tokenizer_json() -> bytes:
    """Of 51866 tokens, as from large-v3 on."""
    return make_tokenizer(50257, 100)


@pytest.fixture
def checkpoint(tokenizer_json: bytes) -> Checkpoint:
    """Two encoder and three decoder layers of width 32, random."""
    dims = Dims(mels=80, vocab=51865, width=32, encoder_heads=2, encoder_layers=2, decoder_heads=2, decoder_layers=3)
    return make_checkpoint(dims, tokenizer_json)


@pytest.fixture
def v3_checkpoint(v3_tokenizer_json: bytes) -> Checkpoint:
    """128 mels and 51866 tokens, one encoder and one decoder layer, random."""
    dims = Dims(mels=128, vocab=51866, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1)
    return make_checkpoint(dims, v3_tokenizer_json)
