"""Noise mixed into speech at a given signal-to-noise ratio: white, pink, babble, and recordings."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from whisperstill.atomic_io import file_sha256
from whisperstill.audio.audio_files import AUDIO_SUFFIXES, load_audio
from whisperstill.audio.levels import Block, Waveform, mean_power
from whisperstill.errors import SettingsError


def mix_at_snr(speech: Waveform, noise: Float32[np.ndarray, "noise"], snr_db: float, offset: int = 0) -> Waveform:
    """`speech` plus `noise`, scaled so that 10 log10(speech power / noise power) is `snr_db`.

    The noise begins at sample `offset` and is repeated if it is shorter. Powers are means over the whole clip. Silent
    speech, or speech with silent noise, is returned unchanged. The sum may exceed full scale and is not clipped.
    Raises `ValueError` for empty noise.
    """
    if not len(noise):
        raise ValueError("expected noise, got no samples")
    noise_segment = np.take(noise, np.arange(offset, offset + len(speech)), mode="wrap")
    speech_power, noise_power = mean_power(speech), mean_power(noise_segment)
    if not speech_power or not noise_power:
        return speech.copy()
    gain = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: np.ndarray = (speech + gain * noise_segment).astype(np.float32)
    return mixed


def white_noise(samples: int, rng: np.random.Generator) -> Float32[np.ndarray, "{samples}"]:
    """Gaussian noise of power 1 with a flat spectrum."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(samples: int, rng: np.random.Generator) -> Float32[np.ndarray, "{samples}"]:
    """Gaussian noise of power 1 whose spectrum falls by 3 dB per octave."""
    if samples < 2:
        return np.zeros(samples, np.float32)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    shaped = np.fft.irfft(spectrum, samples)
    noise: np.ndarray = (shaped / np.sqrt(np.square(shaped).mean())).astype(np.float32)
    return noise


def babble(utterances: Sequence[Block], samples: int, rng: np.random.Generator) -> Float32[np.ndarray, "{samples}"]:
    """The sum of utterances at equal power, each from a random offset and repeated if it is shorter.

    Raises `SettingsError` if there are none.
    """
    non_empty = [utterance for utterance in utterances if len(utterance)]
    if not non_empty:
        raise SettingsError("babble needs other utterances, got none: use a dataset of at least two")
    mixture = np.zeros(samples)
    for utterance in non_empty:
        power = mean_power(utterance)
        start = int(rng.integers(len(utterance)))
        if power:
            mixture += np.take(utterance, np.arange(start, start + samples), mode="wrap") / np.sqrt(power)
    return mixture.astype(np.float32)


SYNTHETIC = {"white": white_noise, "pink": pink_noise}


class NoiseSampler:
    """Adds a noise drawn from `white`, `pink`, files, or folders of files; recordings are read once.

    Raises `SettingsError` for a source that is none of these.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources: list[str | Path] = []
        for name in sources:
            path = Path(name)
            if name in SYNTHETIC or path.is_file():
                self._sources.append(name if name in SYNTHETIC else path)
            elif path.is_dir():
                self._sources += sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            else:
                raise SettingsError(f"noise_sources must be {', '.join(SYNTHETIC)}, files or folders, got {name}")
        if not self._sources:
            raise SettingsError(f"noise_sources must name a noise, got none in {', '.join(sources) or 'nothing'}")
        self._waveforms: dict[Path, np.ndarray] = {}

    def sha256(self) -> str:
        """Hash of the recordings' contents, in order."""
        digests = [file_sha256(source) for source in self._sources if isinstance(source, Path)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def add_to(self, speech: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
        """`speech` with one of the noises, from a random offset."""
        source = self._sources[rng.integers(len(self._sources))]
        if isinstance(source, str):
            return mix_at_snr(speech, SYNTHETIC[source](len(speech), rng), snr_db)
        if source not in self._waveforms:
            self._waveforms[source] = load_audio(str(source))
        noise = self._waveforms[source]
        return mix_at_snr(speech, noise, snr_db, int(rng.integers(max(1, len(noise)))))
