"""Where sound that could be speech is, by its energy alone: what there is without a voice detector's weights.

Three things are asked, all of them cheap. Is a frame well above the floor of the half minute around it? Is it above
the hiss of a converter? And does the level of the whole stretch rise and fall as syllables do? The last is what tells
speech from steady sound: noise, mains hum and tones keep their level within a fraction of a decibel over a second,
whatever that level is, while speech moves by ten and more. Sound that is modulated and no speech (dishes, barking,
music) passes: this is no voice detector.

Levels are those of the first difference of the waveform, which rises by 6 dB an octave: rumble and hum weigh little.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, exact_div

FRAMES_PER_SECOND = exact_div(SAMPLE_RATE, HOP_SAMPLES)
DECIDED_FRAMES = 10 * FRAMES_PER_SECOND  # decided at a time
AROUND_FRAMES = 20 * FRAMES_PER_SECOND  # looked at before them
KEPT_FRAMES = 90 * FRAMES_PER_SECOND  # for the question whether a stretch is steady
LOWEST_DB = -75.0  # of the difference: a 16-bit converter's own noise lies at -98
FLOOR_DB = -120.0
ABOVE_FLOOR_DB, MOST_BELOW_LOUD_DB, LEAST_BELOW_LOUD_DB = 10.0, 35.0, 10.0
SMOOTH_FRAMES = 5  # 50 ms: a period of the mains and more
TREND_FRAMES = 101  # 1 s: what is slower is no syllable
EDGE_FRAMES = 10  # onset and decay are no modulation
SHORTEST_FRAMES = 40  # what is shorter shows no syllables: it is believed
STEADY_DB = 3.0  # from the 10th to the 90th percentile


class Energy:
    """A stream of audio being looked at; the decision on a frame comes up to 10 s after it."""

    hop = HOP_SAMPLES
    """Samples to a frame."""

    def __init__(self) -> None:
        self.last = np.zeros(1, np.float32)
        self.levels = np.zeros(0)
        """Decibels, from frame `first` on."""
        self.first, self.decided = 0, 0

    def feed(self, block: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "frames"]:
        """1 where there is sound, else 0, for the next frames; `samples` is a multiple of 160, `frames` may be 0."""
        difference = np.diff(block, prepend=self.last)
        self.last = block[-1:] if len(block) else self.last
        powers = np.square(difference, dtype=np.float64).reshape(-1, HOP_SAMPLES).mean(axis=1)
        self.levels = np.concatenate([self.levels, _decibels(powers)])
        found = []
        while self.first + len(self.levels) - self.decided >= DECIDED_FRAMES:
            found.append(self._decide(self.decided + DECIDED_FRAMES))
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """The same for the frames that are left."""
        end = self.first + len(self.levels)
        return self._decide(end) if end > self.decided else np.zeros(0, np.float32)

    def believes(self, begin: int, end: int) -> bool:
        """Whether the level of frames `begin .. end` moves as that of speech does."""
        return not is_steady(self.levels[max(0, begin - self.first) : max(0, end - self.first)])

    def _decide(self, end: int) -> Float32[np.ndarray, "frames"]:
        low = max(self.first, self.decided - AROUND_FRAMES)
        around = self.levels[low - self.first : end - self.first]
        active = above_floor(around)[self.decided - low :]
        self.decided = end
        forget = max(0, end - self.first - KEPT_FRAMES)
        self.levels, self.first = self.levels[forget:], self.first + forget
        return active.astype(np.float32)


def above_floor(levels: Float64[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Frames well above the quietest tenth of these, but never further than 10 to 35 dB below the loudest."""
    floor, loud = np.percentile(levels, [10, 95])
    threshold = min(max(floor + ABOVE_FLOOR_DB, loud - MOST_BELOW_LOUD_DB), loud - LEAST_BELOW_LOUD_DB)
    active: np.ndarray = levels > max(LOWEST_DB, threshold)
    return active


def is_steady(levels: Float64[np.ndarray, "frames"]) -> bool:
    """Whether levels in decibels, every 10 ms, stay the same but for a slow trend; False where they are too few."""
    levels = levels[EDGE_FRAMES : len(levels) - EDGE_FRAMES]
    if len(levels) < SHORTEST_FRAMES:
        return False
    smooth = _decibels(_averaged(10 ** (levels / 10), SMOOTH_FRAMES))
    moved = smooth - _averaged(smooth, min(TREND_FRAMES, len(smooth)))
    low, high = np.percentile(moved, [10, 90])
    return bool(high - low < STEADY_DB)


def _averaged(values: Float64[np.ndarray, "frames"], frames: int) -> Float64[np.ndarray, "frames"]:
    """The mean over as many frames around each; over fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - frames // 2, 0), np.minimum(at + frames // 2 + 1, len(values))
    averages: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return averages


def _decibels(powers: Float64[np.ndarray, "frames"]) -> Float64[np.ndarray, "frames"]:
    decibels: np.ndarray = 10 * np.log10(np.maximum(powers, 10 ** (FLOOR_DB / 10)))
    return decibels
