"""Short synthetic audio files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

MakeAudio = Callable[..., Path]


@pytest.fixture
def make_audio(tmp_path: Path) -> MakeAudio:
    """`make_audio("a/b.wav", seconds=0.5, rate=16000, value=None)` writes a file below tmp_path: a tone, or a level."""

    def make(name: str, seconds: float = 0.5, rate: int = 16000, value: float | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, np.full_like(tone, value) if value is not None else tone, rate)
        return path

    return make
