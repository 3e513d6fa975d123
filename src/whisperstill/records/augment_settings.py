"""How a window may be changed before it is heard anew."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentSettings:
    """Changed versions (views) of the windows, each with the teacher's answer for that very version.

    The first `epochs_per_version` epochs hear the windows as they were labelled, each further `epochs_per_version`
    epochs a view drawn anew. 1 is the patient teacher, who answers for every epoch; the more uses, the less the
    teacher is asked.
    """

    epochs_per_version: int = 0
    """Epochs that each view serves; 0: no views."""
    prob: float = 1.0
    """Share of the windows that are changed; the others are heard as they were labelled."""
    speed_perturbation: float = 0.1
    """Largest change of speed: 0.1 draws from 0.9 to 1.1 times. Labels with timestamps keep theirs."""
    noise_sources: tuple[str, ...] = ("white", "pink")
    """What is mixed in: `white`, `pink`, files, or folders of them; one is drawn for each noisy window."""
    noise_prob: float = 0.5
    """Share of the views with noise."""
    min_snr_db: float = 5.0
    """Loudest noise, decibels of speech over noise; drawn evenly up to `max_snr_db`."""
    max_snr_db: float = 30.0
    """Quietest noise, decibels."""
    spec_augment_masks: int = 2
    """SpecAugment: bands of pitch hidden in a window, and for every 10 s as many stretches of time."""
    cache_gib: float = 20.0
    """Most GiB for views that are still to serve; they lie in `views` of the output and make room for others."""


NO_AUGMENTATION = AugmentSettings()
"""Windows as they were labelled."""
