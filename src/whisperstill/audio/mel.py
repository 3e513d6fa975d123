"""Log-mel spectrogram of Whisper's encoder.

Windows of 25 ms every 10 ms, periodic Hann, reflected at the edges, the last frame dropped; power; Slaney's mel bands
with Slaney's area normalization; log10, at most 8 below the maximum of the window; (x + 4) / 4.
Source: Radford et al. 2022, section 2.2; the bands after Slaney's Auditory Toolbox.

Padding belongs to the waveform: silence has the mel value (max - 8 + 4) / 4 of its own window, so features padded with
zeros differ from those of training.
"""

from functools import cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.units import FFT_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES

Samples = TypeVar("Samples", np.ndarray, Tensor)

MAX_MEL_HZ = SAMPLE_RATE / 2
LINEAR_HZ_PER_MEL = 200 / 3  # Slaney's scale: linear below 1 kHz
MEL_LOG_START_HZ = 1000.0
MEL_LOG_STEP = np.log(6.4) / 27  # logarithmic above: 27 mels from 1 to 6.4 kHz


def log_mel(waveforms: Float[Tensor, "batch samples"], mels: int) -> Float[Tensor, "batch {mels} frames"]:
    """Log-mel spectrogram, one frame per 160 samples, on the device of `waveforms`, float32.

    `samples` is `WINDOW_SAMPLES` for the encoder (3000 frames), or any multiple of 160 from 400 on. `mels` is 80, or
    128 from large-v3 on. Raises `ValueError` for other lengths.
    """
    samples = waveforms.shape[-1]
    if samples % HOP_SAMPLES or samples < FFT_SAMPLES:
        raise ValueError(f"expected a multiple of {HOP_SAMPLES} samples, at least {FFT_SAMPLES}, got {samples}")
    waveforms = waveforms.float()
    window = torch.hann_window(FFT_SAMPLES, device=waveforms.device)
    spectrum = torch.stft(waveforms, FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)[..., :-1]
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)  # a tenth of the time of abs() or sum(-1)
    # Never under autocast: bfloat16 products are off by up to 0.4 %, more than the tolerance against the original.
    with torch.autocast(waveforms.device.type, enabled=False):
        mel_power = mel_filters(mels).to(waveforms.device) @ power
    log_power = mel_power.clamp_(min=1e-10).log10_()
    max_log_power = log_power.amax(dim=(-2, -1), keepdim=True)
    return torch.maximum(log_power, max_log_power - 8.0).add_(4.0).div_(4.0)


def pad_or_trim(waveform: Samples, samples: int = WINDOW_SAMPLES) -> Samples:
    """The waveform (`[..., samples]`, array or tensor) cut or zero-padded at its end to `samples`."""
    missing = samples - waveform.shape[-1]
    if missing <= 0:
        return waveform[..., :samples]
    if isinstance(waveform, Tensor):
        return torch.nn.functional.pad(waveform, (0, missing))
    return np.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [(0, missing)])


@cache
def mel_filters(mels: int) -> Float[Tensor, "{mels} bins"]:
    """Triangular bands, equally spaced on Slaney's mel scale from 0 to 8 kHz, each of area 1: float32, on the CPU."""
    bins = np.linspace(0.0, MAX_MEL_HZ, FFT_SAMPLES // 2 + 1)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(MAX_MEL_HZ), mels + 2))
    low, center, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - low) / (center - low), (high - bins) / (high - center)).clip(min=0.0)
    return torch.from_numpy((triangles * 2.0 / (high - low)).astype(np.float32))


def _hz_to_mel(hz: float) -> float:
    if hz < MEL_LOG_START_HZ:
        return hz / LINEAR_HZ_PER_MEL
    return float(MEL_LOG_START_HZ / LINEAR_HZ_PER_MEL + np.log(hz / MEL_LOG_START_HZ) / MEL_LOG_STEP)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    log_mels = mel - MEL_LOG_START_HZ / LINEAR_HZ_PER_MEL
    return np.where(log_mels < 0, mel * LINEAR_HZ_PER_MEL, MEL_LOG_START_HZ * np.exp(MEL_LOG_STEP * log_mels))
