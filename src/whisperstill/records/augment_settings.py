"""Settings of the audio augmentation used in training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentSettings:
    """Augmented versions of the windows, each with teacher targets computed for that version.

    The first `epochs_per_version` epochs use the windows as labelled, each further `epochs_per_version` epochs a new
    version. With 1 the teacher is patient and consistent (arXiv 2106.05237); larger values need less teacher compute.
    """

    epochs_per_version: int = 0
    """Turns augmentation on: epochs that use the same augmented version of a window; 0: no augmentation."""
    prob: float = 1.0
    """Fraction of windows that are augmented."""
    speed_perturbation: float = 0.1
    """Maximum change of speed: 0.1 draws factors from 0.9 to 1.1. Not applied to labels with timestamps."""
    noise_sources: tuple[str, ...] = ("white", "pink")
    """Noise sources: `white`, `pink`, audio files, or folders of them; one is drawn per noisy window."""
    noise_prob: float = 0.5
    """Fraction of augmented windows with noise."""
    min_snr_db: float = 5.0
    """Lowest signal-to-noise ratio, dB; drawn uniformly up to `max_snr_db`."""
    max_snr_db: float = 30.0
    """Highest signal-to-noise ratio, dB."""
    spec_augment_masks: int = 2
    """SpecAugment: number of frequency masks per window, and of time masks per 10 s."""
    cache_gib: float = 20.0
    """Size limit, GiB, of the cache of augmented windows in `augmentation_cache` of the output."""


NO_AUGMENTATION = AugmentSettings()
"""Windows as labelled."""
