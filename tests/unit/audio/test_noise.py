"""Noise at the requested signal-to-noise ratio."""

import numpy as np
import pytest

from whisperstill.audio.noise import mix_at_snr, pink_noise, white_noise


def power(waveform: np.ndarray) -> float:
    return float(np.square(waveform, dtype=np.float64).mean())


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("noise_samples", [777, 16000, 40000])
def test_ratio(snr_db: float, noise_samples: int) -> None:
    rng = np.random.default_rng(0)
    speech, noise = 0.1 * white_noise(16000, rng), 3 * pink_noise(noise_samples, rng)
    added = mix_at_snr(speech, noise, snr_db, offset=500) - speech
    assert 10 * np.log10(power(speech) / power(added)) == pytest.approx(snr_db, abs=0.01)


def test_silence_has_no_ratio() -> None:
    speech = white_noise(100, np.random.default_rng(0))
    np.testing.assert_array_equal(mix_at_snr(speech, np.zeros(10, np.float32), 0.0), speech)
    assert not mix_at_snr(np.zeros(100, np.float32), speech, 0.0).any()
    assert len(mix_at_snr(speech[:0], speech, 0.0)) == 0
    with pytest.raises(ValueError, match="no samples"):
        mix_at_snr(speech, speech[:0], 0.0)


def test_pink_falls_by_three_decibels_an_octave() -> None:
    noise = pink_noise(1 << 17, np.random.default_rng(0))
    assert power(noise) == pytest.approx(1.0)
    spectrum = np.square(np.abs(np.fft.rfft(noise)))
    octaves = [spectrum[1 << k : 2 << k].mean() for k in range(6, 16)]
    steps = 10 * np.log10(np.divide(octaves[1:], octaves[:-1]))
    assert steps.mean() == pytest.approx(-3.01, abs=0.1)


def test_the_same_seed_gives_the_same_noise() -> None:
    for make in (white_noise, pink_noise):
        np.testing.assert_array_equal(make(50, np.random.default_rng(1)), make(50, np.random.default_rng(1)))
        assert len(make(1, np.random.default_rng(1))) == 1
