"""Frames computed together equal the package's own frame-by-frame probabilities."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from whisperstill.audio.silero_vad import SileroDetector, _load_weights
from whisperstill.errors import CheckpointError

needs_silero = pytest.mark.skipif(find_spec("silero_vad") is None, reason="no silero-vad here")


@pytest.fixture
def audio() -> np.ndarray:
    """Bursts of noise and tones, whose speech probabilities change."""
    rng = np.random.default_rng(0)
    times = np.arange(512 * 150) / 16_000
    voiced = sum(np.sin(2 * np.pi * 120 * n * times) / n for n in range(1, 30))
    wave = voiced * np.clip(np.sin(2 * np.pi * 2.5 * times), 0, 1) + 0.02 * rng.normal(size=len(times))
    waveform: np.ndarray = (0.2 * wave).astype(np.float32)
    return waveform


@needs_silero
def test_blocks_equal_the_package_frame_by_frame(audio: np.ndarray) -> None:
    spec = find_spec("silero_vad")
    assert spec is not None and spec.submodule_search_locations
    network = torch.jit.load(str(Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"))
    with torch.no_grad():
        slow = [float(network(frame, 16_000)) for frame in torch.from_numpy(audio).view(-1, 512)]
    for frames in (1, 6, 150):
        detector = SileroDetector()
        fast = np.concatenate([detector.feed(part) for part in audio.reshape(-1, 512 * frames)])
        np.testing.assert_allclose(fast, slow, atol=1e-5)
    assert max(slow) > 0.2 > min(slow)


@needs_silero
def test_the_state_matters(audio: np.ndarray) -> None:
    detector = SileroDetector()
    first, second = detector.feed(audio), detector.feed(audio)
    assert np.abs(first - second).max() > 1e-3
    assert len(detector.feed(audio[:0])) == len(detector.finish()) == 0


def test_invalid_weights(tmp_path: Path) -> None:
    (tmp_path / "silero_vad.jit").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="reinstall silero-vad"):
        _load_weights(tmp_path / "silero_vad.jit")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "other.jit"))
    with pytest.raises(CheckpointError, match="expected network of silero-vad 6"):
        _load_weights(tmp_path / "other.jit")
