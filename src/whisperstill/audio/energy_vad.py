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
DECISION_BLOCK_FRAMES = 10 * FRAMES_PER_SECOND  # decided at a time
CONTEXT_FRAMES = 20 * FRAMES_PER_SECOND  # looked at before them
HISTORY_FRAMES = 90 * FRAMES_PER_SECOND  # for the question whether a stretch is steady
MIN_ACTIVE_DB = -75.0  # of the difference: a 16-bit converter's own noise lies at -98
FLOOR_DB = -120.0
MIN_ABOVE_FLOOR_DB, MAX_BELOW_LOUD_DB, MIN_BELOW_LOUD_DB = 10.0, 35.0, 10.0
SMOOTHING_FRAMES = 5  # 50 ms: a period of the mains and more
TREND_FRAMES = 101  # 1 s: what is slower is no syllable
EDGE_FRAMES = 10  # onset and decay are no modulation
MIN_MODULATION_FRAMES = 40  # what is shorter shows no syllables: it is believed
MAX_STEADY_RANGE_DB = 3.0  # from the 10th to the 90th percentile


class EnergyDetector:
    """A stream of audio being looked at; the decision on a frame comes up to 10 s after it."""

    hop_samples = HOP_SAMPLES
    """Samples to a frame."""

    def __init__(self) -> None:
        self.last_sample = np.zeros(1, np.float32)
        self.levels = np.zeros(0)
        """Decibels, from frame `first` on."""
        self.first_frame, self.num_decided_frames = 0, 0

    def feed(self, block: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "frames"]:
        """1 where there is sound, else 0, for the next frames; `samples` is a multiple of 160, `frames` may be 0."""
        difference = np.diff(block, prepend=self.last_sample)
        self.last_sample = block[-1:] if len(block) else self.last_sample
        powers = np.square(difference, dtype=np.float64).reshape(-1, HOP_SAMPLES).mean(axis=1)
        self.levels = np.concatenate([self.levels, _to_decibels(powers)])
        decisions = []
        while self.first_frame + len(self.levels) - self.num_decided_frames >= DECISION_BLOCK_FRAMES:
            decisions.append(self._decide(self.num_decided_frames + DECISION_BLOCK_FRAMES))
        return np.concatenate(decisions) if decisions else np.zeros(0, np.float32)

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """The same for the frames that are left."""
        end = self.first_frame + len(self.levels)
        return self._decide(end) if end > self.num_decided_frames else np.zeros(0, np.float32)

    def is_speech(self, begin: int, end: int) -> bool:
        """Whether the level of frames `begin .. end` moves as that of speech does."""
        return not is_steady(self.levels[max(0, begin - self.first_frame) : max(0, end - self.first_frame)])

    def _decide(self, end: int) -> Float32[np.ndarray, "frames"]:
        low = max(self.first_frame, self.num_decided_frames - CONTEXT_FRAMES)
        context_levels = self.levels[low - self.first_frame : end - self.first_frame]
        active = above_floor(context_levels)[self.num_decided_frames - low :]
        self.num_decided_frames = end
        num_dropped = max(0, end - self.first_frame - HISTORY_FRAMES)
        self.levels, self.first_frame = self.levels[num_dropped:], self.first_frame + num_dropped
        return active.astype(np.float32)


def above_floor(levels: Float64[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Frames well above the quietest tenth of these, but never further than 10 to 35 dB below the loudest."""
    floor, loud_level = np.percentile(levels, [10, 95])
    threshold = min(max(floor + MIN_ABOVE_FLOOR_DB, loud_level - MAX_BELOW_LOUD_DB), loud_level - MIN_BELOW_LOUD_DB)
    active: np.ndarray = levels > max(MIN_ACTIVE_DB, threshold)
    return active


def is_steady(levels: Float64[np.ndarray, "frames"]) -> bool:
    """Whether levels in decibels, every 10 ms, stay the same but for a slow trend; False where they are too few."""
    levels = levels[EDGE_FRAMES : len(levels) - EDGE_FRAMES]
    if len(levels) < MIN_MODULATION_FRAMES:
        return False
    smooth = _to_decibels(_moving_average(10 ** (levels / 10), SMOOTHING_FRAMES))
    deviation = smooth - _moving_average(smooth, min(TREND_FRAMES, len(smooth)))
    low, high = np.percentile(deviation, [10, 90])
    return bool(high - low < MAX_STEADY_RANGE_DB)


def _moving_average(values: Float64[np.ndarray, "frames"], window_frames: int) -> Float64[np.ndarray, "frames"]:
    """The mean over as many frames around each; over fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    frame_indices = np.arange(len(values))
    low, high = (
        np.maximum(frame_indices - window_frames // 2, 0),
        np.minimum(frame_indices + window_frames // 2 + 1, len(values)),
    )
    averages: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return averages


def _to_decibels(powers: Float64[np.ndarray, "frames"]) -> Float64[np.ndarray, "frames"]:
    decibels: np.ndarray = 10 * np.log10(np.maximum(powers, 10 ** (FLOOR_DB / 10)))
    return decibels
