"""How a window may be changed before it is heard anew."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Changed versions (views) of the windows, each with the teacher's answer for that very version.

    The first `uses` epochs hear the windows as they were labelled, each further `uses` epochs a view drawn anew. 1 is
    the patient teacher, who answers for every epoch; the more uses, the less the teacher is asked.
    """

    uses: int = 0
    """Epochs that each view serves; 0: no views."""
    share: float = 1.0
    """Share of the windows that are changed; the others are heard as they were labelled."""
    speed: float = 0.1
    """Largest change of speed: 0.1 draws from 0.9 to 1.1 times. Labels with timestamps keep theirs."""
    noises: tuple[str, ...] = ("white", "pink")
    """What is mixed in: `white`, `pink`, files, or folders of them; one is drawn for each noisy window."""
    noisy: float = 0.5
    """Share of the views with noise."""
    lowest_snr: float = 5.0
    """Loudest noise, decibels of speech over noise; drawn evenly up to `highest_snr`."""
    highest_snr: float = 30.0
    """Quietest noise, decibels."""
    masks: int = 2
    """SpecAugment: bands of pitch hidden in a window, and for every 10 s as many stretches of time."""
    disk: float = 20.0
    """Most GiB for views that are still to serve; they lie in `views` of the output and make room for others."""


NO_VIEWS = Augmentation()
"""Windows as they were labelled."""
