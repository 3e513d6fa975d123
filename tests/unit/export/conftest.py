"""Random checkpoints with each of Whisper's three vocabularies, and real clips."""

from pathlib import Path

import numpy as np
import pytest
from small_models import make_checkpoint, make_tokenizer

from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims

VOCABULARIES = {"english": (50256, 99, 80), "multilingual": (50257, 99, 80), "large-v3": (50257, 100, 128)}
"""Name -> text tokens, languages, mels."""


@pytest.fixture(scope="session", params=VOCABULARIES)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """Two encoder and three decoder layers of width 32."""
    texts, languages, mels = VOCABULARIES[request.param]
    dims = Dims(mels, texts + languages + 1509, 32, 2, 2, 2, 3)
    return make_checkpoint(dims, make_tokenizer(texts, languages))


@pytest.fixture(scope="session")
def multilingual() -> Checkpoint:
    """A checkpoint with 51865 tokens."""
    return make_checkpoint(Dims(80, 51865, 32, 2, 2, 2, 3), make_tokenizer(50257, 99))


@pytest.fixture(scope="session")
def clips(speech: Path) -> list[np.ndarray]:
    """Four clips of read speech, 16 kHz; the corpus's first clip, which Whisper cuts short, is left out."""
    utterances = read_corpus(speech / "librispeech-mini-test" / "manifest.jsonl").utterances[1:5]
    return [load_utterance_waveform(utterance) for utterance in utterances]
