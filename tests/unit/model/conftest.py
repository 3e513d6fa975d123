"""Random checkpoints of a few hundred kilobytes."""

import pytest
from small_models import make_checkpoint, make_tokenizer

from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """tokenizer.json of a multilingual tokenizer of 51865 tokens."""
    return make_tokenizer(50257, 99)


@pytest.fixture(scope="session")
def v3_tokenizer_json() -> bytes:
    """tokenizer.json of a multilingual tokenizer of 51866 tokens (large-v3)."""
    return make_tokenizer(50257, 100)


@pytest.fixture
def checkpoint(tokenizer_json: bytes) -> Checkpoint:
    """Two encoder and three decoder layers of width 32, random."""
    dims = Dims(
        mels=80, vocab_size=51865, width=32, encoder_heads=2, encoder_layers=2, decoder_heads=2, decoder_layers=3
    )
    return make_checkpoint(dims, tokenizer_json)


@pytest.fixture
def v3_checkpoint(v3_tokenizer_json: bytes) -> Checkpoint:
    """128 mels and 51866 tokens, one encoder and one decoder layer, random."""
    dims = Dims(
        mels=128, vocab_size=51866, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    return make_checkpoint(dims, v3_tokenizer_json)
