"""Our spectrogram against the one transformers computes for the same waveforms."""

import numpy as np
import pytest
import torch

from whisperstill.audio.mel import log_mel, mel_filters, pad_or_trim
from whisperstill.units import SAMPLE_RATE, WINDOW_FRAMES, WINDOW_SAMPLES


def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    chirp = 0.5 * np.sin(2 * np.pi * (100 + 700 * time) * time)
    return [
        chirp.astype(np.float32),
        (0.1 * rng.standard_normal(WINDOW_SAMPLES)).astype(np.float32),
        (1e-4 * rng.standard_normal(12345)).astype(np.float32),
        np.zeros(1000, np.float32),
    ]


@pytest.mark.parametrize("mels", [80, 128])
def test_equals_transformers(mels: int) -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    expected = extractor(waveforms(), sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
    batch = torch.stack([pad_or_trim(torch.from_numpy(waveform)) for waveform in waveforms()])
    ours = log_mel(batch, mels)
    assert ours.shape == (4, mels, WINDOW_FRAMES)
    assert ours.dtype == torch.float32
    assert (ours - expected).abs().max() <= 1e-4
    # Negative control: other bands are not equal.
    assert (log_mel(batch.flip(-1), mels) - expected).abs().max() > 0.1


def test_a_batch_is_its_rows() -> None:
    batch = torch.stack([pad_or_trim(torch.from_numpy(waveform)) for waveform in waveforms()])
    rows = torch.cat([log_mel(row[None], 80) for row in batch])
    torch.testing.assert_close(log_mel(batch, 80), rows, rtol=1e-5, atol=1e-6)


def test_padding_the_features_is_not_padding_the_waveform() -> None:
    short = torch.from_numpy(waveforms()[0])[None]
    padded_first = log_mel(pad_or_trim(short), 80)
    padded = pad_or_trim(log_mel(short, 80), WINDOW_FRAMES)
    assert (padded_first - padded)[..., 520:].abs().max() > 0.1


def test_the_input_is_unchanged() -> None:
    batch = torch.from_numpy(waveforms()[1])[None]
    before = batch.clone()
    log_mel(batch, 80)
    torch.testing.assert_close(batch, before, rtol=0, atol=0)


@pytest.mark.parametrize("samples", [0, 160, 399, 401, WINDOW_SAMPLES + 1])
def test_lengths_that_are_no_frames(samples: int) -> None:
    with pytest.raises(ValueError, match="multiple of 160"):
        log_mel(torch.zeros(1, samples), 80)


def test_bands_have_area_one() -> None:
    for mels in (80, 128):
        filters = mel_filters(mels)
        assert filters.shape == (mels, 201)
        assert (filters >= 0).all()
        wide = filters[-20:].sum(1) * (SAMPLE_RATE / 400)  # narrow bands are sampled too coarsely to sum to 1
        torch.testing.assert_close(wide, torch.ones(20), rtol=1e-5, atol=0.02)


def test_pad_or_trim() -> None:
    for make in (np.ones, torch.ones):
        assert pad_or_trim(make(3), 5).tolist() == [1, 1, 1, 0, 0]
        assert pad_or_trim(make(7), 5).tolist() == [1] * 5
        assert pad_or_trim(make((2, 3))).shape == (2, WINDOW_SAMPLES)
