"""A small world: a random teacher of full vocabulary, its student, and a corpus of noise with words."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet".split()


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoder and three decoder layers of width 32, on disk as a Hugging Face directory."""
    from small_models import make_checkpoint, make_tokenizer

    from whisperstill.model.checkpoints import write_huggingface
    from whisperstill.model.dims import Dims

    dims = Dims(mels=80, vocab=51865, width=32, encoder_heads=2, encoder_layers=2, decoder_heads=2, decoder_layers=3)
    directory = tmp_path_factory.mktemp("small-teacher")
    write_huggingface(make_checkpoint(dims, make_tokenizer(50257, 99)), directory)
    return directory


@pytest.fixture(scope="session")
def small_student(small_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of its decoder layers."""
    from whisperstill.stages import init
    from whisperstill.stages.console import Silent

    directory = tmp_path_factory.mktemp("students") / "student"
    init.run(init.InitSettings(teacher=str(small_teacher), output=directory), Silent())
    return directory


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 14 stretches of noise by two speakers in two sessions each, 3 to 9 s."""
    directory = tmp_path_factory.mktemp("small-corpus")
    generator = np.random.default_rng(0)
    lines = []
    for index in range(14):
        seconds = 3 + index % 7
        sound = generator.normal(0, 0.1, seconds * 16_000).astype(np.float32)
        soundfile.write(directory / f"{index:02d}.wav", sound, 16_000)
        line = {
            "id": f"u{index:02d}",
            "audio": f"{index:02d}.wav",
            "text": " ".join(WORDS[: 2 + index % 5]),
            "duration_s": float(seconds),
            "speaker": f"s{index // 7}",
            "session": f"c{index // 4}",
            "language": "en",
        }
        lines.append(json.dumps(line))
    manifest = directory / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
