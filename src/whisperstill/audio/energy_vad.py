"""Voice activity detection by energy alone, for use without a detector's weights.

Three cheap criteria: a frame is well above the noise floor of the surrounding half minute; it is above the noise of a
converter; and the level of the whole stretch rises and falls as syllables do. The last one separates speech from steady
sound: noise, mains hum and tones keep their level within a fraction of a decibel over a second, at any loudness, while
speech varies by ten and more. Modulated sounds that are not speech (dishes, barking, music) pass.

Levels are those of the first difference of the waveform, which rises by 6 dB per octave: rumble and hum weigh little.
"""

import numpy as np
from jaxtyping import Float32, Float64

from whisperstill.audio.levels import FRAMES_PER_SECOND, Waveform, activity_threshold_db, frame_powers, to_decibels
from whisperstill.units import HOP_SAMPLES

DECISION_BLOCK_FRAMES = 10 * FRAMES_PER_SECOND  # decided at a time
CONTEXT_FRAMES = 20 * FRAMES_PER_SECOND  # before them, for the noise floor
HISTORY_FRAMES = 90 * FRAMES_PER_SECOND  # kept to decide whether a stretch is steady
MIN_ACTIVE_DB = -75.0  # of the difference: a 16-bit converter's own noise is at -98
FLOOR_DB = -120.0
SMOOTHING_FRAMES = 5  # 50 ms: at least one period of mains hum
TREND_FRAMES = 101  # 1 s: anything slower is no syllable
EDGE_FRAMES = 10  # onset and decay are no modulation
MIN_MODULATION_FRAMES = 40  # a shorter stretch has too few syllables to decide and counts as speech
MAX_STEADY_RANGE_DB = 3.0  # from the 10th to the 90th percentile


class EnergyDetector:
    """Detector for a stream of audio; a frame is decided up to 10 s after it."""

    hop_samples = HOP_SAMPLES
    """Samples per frame."""

    def __init__(self) -> None:
        self.last_sample = np.zeros(1, np.float32)
        self.levels = np.zeros(0)
        """Decibels, from frame `first_frame` on."""
        self.first_frame, self.num_decided_frames = 0, 0

    def feed(self, block: Waveform) -> Float32[np.ndarray, "frames"]:
        """1 for active frames, else 0, for the next frames; `samples` is a multiple of 160, `frames` may be 0."""
        difference = np.diff(block, prepend=self.last_sample)
        self.last_sample = block[-1:] if len(block) else self.last_sample
        self.levels = np.concatenate([self.levels, to_decibels(frame_powers(difference), FLOOR_DB)])
        decisions = []
        while self.first_frame + len(self.levels) - self.num_decided_frames >= DECISION_BLOCK_FRAMES:
            decisions.append(self._decide(self.num_decided_frames + DECISION_BLOCK_FRAMES))
        return np.concatenate(decisions) if decisions else np.zeros(0, np.float32)

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """The remaining frames."""
        end = self.first_frame + len(self.levels)
        return self._decide(end) if end > self.num_decided_frames else np.zeros(0, np.float32)

    def is_speech(self, begin: int, end: int) -> bool:
        """Whether the level of frames `begin` to `end` varies as that of speech does."""
        return not is_steady(self.levels[max(0, begin - self.first_frame) : max(0, end - self.first_frame)])

    def _decide(self, end: int) -> Float32[np.ndarray, "frames"]:
        low = max(self.first_frame, self.num_decided_frames - CONTEXT_FRAMES)
        context_levels = self.levels[low - self.first_frame : end - self.first_frame]
        threshold = max(MIN_ACTIVE_DB, activity_threshold_db(context_levels))
        active = context_levels[self.num_decided_frames - low :] > threshold
        self.num_decided_frames = end
        num_dropped = max(0, end - self.first_frame - HISTORY_FRAMES)
        self.levels, self.first_frame = self.levels[num_dropped:], self.first_frame + num_dropped
        decisions: np.ndarray = active.astype(np.float32)
        return decisions


def is_steady(levels: Float64[np.ndarray, "frames"]) -> bool:
    """Whether levels in dB, one per 10 ms, are constant apart from a slow trend; False if they are too few."""
    levels = levels[EDGE_FRAMES : len(levels) - EDGE_FRAMES]
    if len(levels) < MIN_MODULATION_FRAMES:
        return False
    smooth = to_decibels(_moving_average(10 ** (levels / 10), SMOOTHING_FRAMES), FLOOR_DB)
    deviation = smooth - _moving_average(smooth, min(TREND_FRAMES, len(smooth)))
    low, high = np.percentile(deviation, [10, 90])
    return bool(high - low < MAX_STEADY_RANGE_DB)


def _moving_average(values: Float64[np.ndarray, "frames"], window_frames: int) -> Float64[np.ndarray, "frames"]:
    """The mean over `window_frames` frames around each; over fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    frame_indices = np.arange(len(values))
    low = np.maximum(frame_indices - window_frames // 2, 0)
    high = np.minimum(frame_indices + window_frames // 2 + 1, len(values))
    averages: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return averages
