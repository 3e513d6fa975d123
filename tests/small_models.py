"""A tokenizer with Whisper's special tokens and random weights: checkpoints of a few hundred kilobytes."""

import json
from typing import Any

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
