"""Speed perturbation and SpecAugment.

Speed perturbation resamples, which changes pitch too (Ko et al. 2015). SpecAugment masks mel bands and stretches of
time (Park et al. 2019, arXiv 1904.08779), here with the mean of the spectrogram.
"""

import numpy as np
import soxr
from jaxtyping import Float32

from whisperstill.audio.levels import FRAMES_PER_SECOND, Waveform
from whisperstill.units import SAMPLE_RATE

MAX_MASK_BAND_FRACTION = 1 / 5
"""Largest fraction of the mel bands under one mask."""
MAX_TIME_MASK_SECONDS = 0.4
"""Longest time mask: no longer than a word."""
SECONDS_PER_TIME_MASK = 10


def change_speed(waveform: Waveform, factor: float) -> Float32[np.ndarray, "shorter"]:
    """The waveform played `factor` times as fast: samples / factor samples."""
    resampled: np.ndarray = soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE)
    return resampled


def spec_augment(
    mel: Float32[np.ndarray, "mels frames"], seconds: float, num_masks: int, rng: np.random.Generator
) -> Float32[np.ndarray, "mels frames"]:
    """The spectrogram with `num_masks` bands masked, and as many stretches of time per 10 s of its audio."""
    mel, bands, frames = mel.copy(), len(mel), round(seconds * FRAMES_PER_SECOND)
    mean = mel[:, :frames].mean()
    for _ in range(num_masks):
        width = int(rng.integers(round(bands * MAX_MASK_BAND_FRACTION) + 1))
        start = int(rng.integers(bands - width + 1))
        mel[start : start + width] = mean
    for _ in range(round(num_masks * seconds / SECONDS_PER_TIME_MASK)):
        width = int(rng.integers(round(MAX_TIME_MASK_SECONDS * FRAMES_PER_SECOND) + 1))
        start = int(rng.integers(max(1, frames - width)))
        mel[:, start : start + width] = mean
    return mel
