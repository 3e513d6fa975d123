"""Power and level of waveforms: means over clips and over 10 ms frames, decibels, and thresholds for activity."""

import numpy as np
from jaxtyping import Float32, Float64

from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, exact_div

Waveform = Float32[np.ndarray, "samples"]
"""Mono samples, full scale 1; functions return as many samples as they take."""
Block = Float32[np.ndarray, "_"]
"""Mono samples of any number."""

FRAMES_PER_SECOND = exact_div(SAMPLE_RATE, HOP_SAMPLES)
"""Frames of 10 ms, those of the spectrogram."""
MIN_ABOVE_FLOOR_DB, MAX_BELOW_LOUD_DB, MIN_BELOW_LOUD_DB = 10.0, 35.0, 10.0


def mean_power(waveform: Waveform) -> float:
    """Mean square in float64; 0 for an empty waveform."""
    return float(np.square(waveform, dtype=np.float64).mean()) if len(waveform) else 0.0


def frame_powers(waveform: Waveform) -> Float64[np.ndarray, "frames"]:
    """Mean square of every 10 ms; `samples` is a multiple of 160."""
    powers: np.ndarray = np.square(waveform, dtype=np.float64).reshape(-1, HOP_SAMPLES).mean(axis=1)
    return powers


def to_decibels(powers: Float64[np.ndarray, "frames"], floor_db: float) -> Float64[np.ndarray, "frames"]:
    """Powers in dB of full scale, at least `floor_db`."""
    decibels: np.ndarray = 10 * np.log10(np.maximum(powers, 10 ** (floor_db / 10)))
    return decibels


def activity_threshold_db(levels: Float64[np.ndarray, "frames"]) -> float:
    """Level above which frames are active: 10 dB above the quietest tenth, but 10 to 35 dB below the loudest."""
    floor, loud = np.percentile(levels, [10, 95]).tolist()
    threshold: float = min(max(floor + MIN_ABOVE_FLOOR_DB, loud - MAX_BELOW_LOUD_DB), loud - MIN_BELOW_LOUD_DB)
    return threshold
