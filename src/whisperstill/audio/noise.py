"""Noise over speech at a given ratio of their powers."""

import numpy as np
from jaxtyping import Float32


def mix_at_snr(
    speech: Float32[np.ndarray, "samples"], noise: Float32[np.ndarray, "noise"], snr_db: float, offset: int = 0
) -> Float32[np.ndarray, "samples"]:
    """`speech` with `noise` added so that 10 log10(power of speech / power of noise) is `snr_db`.

    The noise is taken from sample `offset` on and repeated where it is shorter. Powers are means over the whole clip.
    Silent speech or silent noise has no ratio: the speech is given back unchanged. The sum may exceed full scale and is
    not clipped: clipping would be another distortion.
    """
    if not len(noise):
        raise ValueError("expected noise, got no samples")
    noise_segment = np.take(noise, np.arange(offset, offset + len(speech)), mode="wrap")
    speech_power = float(np.square(speech, dtype=np.float64).mean()) if len(speech) else 0.0
    noise_power = float(np.square(noise_segment, dtype=np.float64).mean()) if len(speech) else 0.0
    if not speech_power or not noise_power:
        return speech.copy()
    gain = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: np.ndarray = (speech + gain * noise_segment).astype(np.float32)
    return mixed


def white_noise(samples: int, rng: np.random.Generator) -> Float32[np.ndarray, "{samples}"]:
    """Gaussian noise of power 1, the same at all frequencies."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(samples: int, rng: np.random.Generator) -> Float32[np.ndarray, "{samples}"]:
    """Gaussian noise of power 1 that falls by 3 dB an octave."""
    if samples < 2:
        return np.zeros(samples, np.float32)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    shaped = np.fft.irfft(spectrum, samples)
    noise: np.ndarray = (shaped / np.sqrt(np.square(shaped).mean())).astype(np.float32)
    return noise
