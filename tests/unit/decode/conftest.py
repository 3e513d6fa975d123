"""A tokenizer of bytes and a random network."""

import pytest
from small_models import make_checkpoint, make_tokenizer

from whisperstill.model.checkpoints import Checkpoint
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import DIMS


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """tokenizer.json of a multilingual tokenizer of 51865 tokens."""
    return make_tokenizer(50257, 99)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: bytes) -> Tokenizer:
    """The multilingual tokenizer of 51865 tokens."""
    return Tokenizer.from_bytes(tokenizer_json, 51865)


@pytest.fixture(scope="session")
def random_checkpoint(tokenizer_json: bytes) -> Checkpoint:
    """One encoder and two decoder layers of width 32, with weights so large that tokens depend on the audio."""
    checkpoint = make_checkpoint(DIMS, tokenizer_json)
    for name, tensor in checkpoint.state.items():
        if "layers" in name:
            tensor *= 20 if ".cross." in name else 4
        elif name.endswith("norm.weight"):
            tensor.fill_(1.0)
    return checkpoint
