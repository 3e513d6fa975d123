"""Changes to a sound that leave its words as they are.

Speed is changed by resampling, pitch with it (Ko et al. 2015); noise is mixed in at a ratio of powers; SpecAugment
hides bands of pitch and stretches of time (Park et al. 2019, arXiv 1904.08779), here behind the spectrogram's mean.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float32

from whisperstill.atomic_io import file_sha256
from whisperstill.audio.audio_files import AUDIO_SUFFIXES, load_audio
from whisperstill.audio.noise import mix_at_snr, pink_noise, white_noise
from whisperstill.errors import SettingsError
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE

MAX_MASK_BAND_FRACTION = 1 / 5
"""Of the mel bands, hidden by one mask."""
FRAMES_PER_SECOND = SAMPLE_RATE / HOP_SAMPLES
MAX_TIME_MASK_SECONDS = 0.4
"""Seconds hidden by one mask: no longer than a word."""
SECONDS_PER_TIME_MASK = 10
SYNTHETIC_NOISES = {"white": white_noise, "pink": pink_noise}


class NoiseSampler:
    """Noises to draw from. Raises `SettingsError` for a name that is neither a kind nor a file or a folder of them."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources: list[str | Path] = []
        for name in sources:
            path = Path(name)
            if name in SYNTHETIC_NOISES or path.is_file():
                self._sources.append(name if name in SYNTHETIC_NOISES else path)
            elif path.is_dir():
                self._sources += sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            else:
                raise SettingsError(
                    f"noise_sources must be {', '.join(SYNTHETIC_NOISES)}, files or folders, got {name}"
                )
        if not self._sources:
            raise SettingsError(
                f"noise_sources must name at least one noise, found none in {', '.join(sources) or 'nothing'}"
            )
        self._waveforms: dict[Path, np.ndarray] = {}

    def sha256(self) -> str:
        """Of the recordings' contents, in their order."""
        digests = [file_sha256(source) for source in self._sources if isinstance(source, Path)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def add_to(
        self, speech: Float32[np.ndarray, "samples"], snr_db: float, rng: np.random.Generator
    ) -> Float32[np.ndarray, "samples"]:
        """`speech` with one of the noises, from a place in it that is drawn, too."""
        source = self._sources[rng.integers(len(self._sources))]
        if isinstance(source, str):
            return mix_at_snr(speech, SYNTHETIC_NOISES[source](len(speech), rng), snr_db)
        if source not in self._waveforms:
            self._waveforms[source] = load_audio(str(source))
        noise = self._waveforms[source]
        return mix_at_snr(speech, noise, snr_db, int(rng.integers(max(1, len(noise)))))


def change_speed(waveform: Float32[np.ndarray, "samples"], factor: float) -> Float32[np.ndarray, "shorter"]:
    """The sound played `factor` times as fast: samples / factor of them."""
    resampled: np.ndarray = soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE)
    return resampled


def spec_augment(
    mel: Float32[np.ndarray, "mels frames"], seconds: float, num_masks: int, rng: np.random.Generator
) -> Float32[np.ndarray, "mels frames"]:
    """The spectrogram with `masks` bands hidden, and as many stretches of time for every 10 s of its sound."""
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
