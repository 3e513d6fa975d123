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

from whisperstill.audio.files import AUDIO_SUFFIXES, load_audio
from whisperstill.audio.noise import mix, pink, white
from whisperstill.errors import SettingsError
from whisperstill.files import file_sha256
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE

WIDEST_BAND = 1 / 5
"""Of the mel bands, hidden by one mask."""
FRAMES_PER_SECOND = SAMPLE_RATE / HOP_SAMPLES
LONGEST_STRETCH = 0.4
"""Seconds hidden by one mask: no longer than a word."""
SECONDS_PER_MASK = 10
MADE = {"white": white, "pink": pink}


class Noises:
    """Noises to draw from. Raises `SettingsError` for a name that is neither a kind nor a file or a folder of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._found: list[str | Path] = []
        for name in names:
            path = Path(name)
            if name in MADE or path.is_file():
                self._found.append(name if name in MADE else path)
            elif path.is_dir():
                self._found += sorted(one for one in path.rglob("*") if one.suffix.lower() in AUDIO_SUFFIXES)
            else:
                raise SettingsError(f"noises must be {', '.join(MADE)}, files or folders, got {name}")
        if not self._found:
            raise SettingsError(f"noises must name at least one noise, found none in {', '.join(names) or 'nothing'}")
        self._read: dict[Path, np.ndarray] = {}

    def sha256(self) -> str:
        """Of the recordings' contents, in their order."""
        files = [file_sha256(one) for one in self._found if isinstance(one, Path)]
        return hashlib.sha256("".join(files).encode()).hexdigest()

    def over(
        self, speech: Float32[np.ndarray, "samples"], snr_db: float, rng: np.random.Generator
    ) -> Float32[np.ndarray, "samples"]:
        """`speech` with one of the noises, from a place in it that is drawn, too."""
        one = self._found[rng.integers(len(self._found))]
        if isinstance(one, str):
            return mix(speech, MADE[one](len(speech), rng), snr_db)
        if one not in self._read:
            self._read[one] = load_audio(str(one))
        noise = self._read[one]
        return mix(speech, noise, snr_db, int(rng.integers(max(1, len(noise)))))


def change_speed(sound: Float32[np.ndarray, "samples"], factor: float) -> Float32[np.ndarray, "shorter"]:
    """The sound played `factor` times as fast: samples / factor of them."""
    faster: np.ndarray = soxr.resample(sound, SAMPLE_RATE * factor, SAMPLE_RATE)
    return faster


def hide(
    mel: Float32[np.ndarray, "mels frames"], seconds: float, masks: int, rng: np.random.Generator
) -> Float32[np.ndarray, "mels frames"]:
    """The spectrogram with `masks` bands hidden, and as many stretches of time for every 10 s of its sound."""
    mel, bands, frames = mel.copy(), len(mel), round(seconds * FRAMES_PER_SECOND)
    mean = mel[:, :frames].mean()
    for _ in range(masks):
        width = int(rng.integers(round(bands * WIDEST_BAND) + 1))
        first = int(rng.integers(bands - width + 1))
        mel[first : first + width] = mean
    for _ in range(round(masks * seconds / SECONDS_PER_MASK)):
        width = int(rng.integers(round(LONGEST_STRETCH * FRAMES_PER_SECOND) + 1))
        first = int(rng.integers(max(1, frames - width)))
        mel[:, first : first + width] = mean
    return mel
