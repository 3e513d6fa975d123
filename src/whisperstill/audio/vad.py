"""Voice activity detection: speech spans of a recording of any length, found while it is read.

Two detectors: `silero` (a network; needs the extra `vad`) and `energy` (`audio.energy_vad`; no dependencies, does not
distinguish a dog from a speaker). Either gives a speech probability per frame; this module turns frames into spans with
the options of faster-whisper. Memory holds the powers of 10 ms frames of the open span, whatever the length of the
recording.

A span that reaches `max_speech_duration` without a pause is cut at the quietest place of its second half while it is
still going on: no result has to wait for the end of a speech.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import stream_audio
from whisperstill.audio.levels import Block, Waveform, frame_powers
from whisperstill.audio.sound_activity import quietest_frame
from whisperstill.errors import SettingsError
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS

VAD_METHODS = ("auto", "silero", "energy")
CHUNK_SAMPLES = 2560  # 160 ms: a whole number of frames of either detector
MAX_DETECT_SAMPLES = 64 * CHUNK_SAMPLES  # 10 s
THRESHOLD_HYSTERESIS = 0.15
MIN_NEG_THRESHOLD = 0.01
MIN_MAX_SPEECH_SECONDS = 2.0  # shorter spans leave no choice of where to cut


@dataclass(frozen=True)
class VadOptions:
    """What counts as a span of speech; names as in faster-whisper, but all durations in seconds."""

    threshold: float = 0.5
    """Probability at which speech starts; it ends 0.15 below (hysteresis). `energy` knows only 0 and 1."""
    min_speech_duration: float = 0.0
    """Shorter spans are dropped."""
    max_speech_duration: float = WINDOW_SECONDS
    """Longer spans (including padding) are cut at their quietest place."""
    min_silence_duration: float = 0.3
    """Shorter pauses are part of the speech around them."""
    speech_pad: float = 0.4
    """Padding at both ends of a span; at most half of the pause to the neighbouring span."""

    def check(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        if not 0 < self.threshold < 1:
            problems.append(f"threshold must be between 0 and 1, got {self.threshold}")
        for name in ("min_speech_duration", "min_silence_duration", "speech_pad"):
            if not getattr(self, name) >= 0:
                problems.append(f"{name} must be at least 0 s, got {getattr(self, name)}")
        min_allowed = 2 * max(0.0, self.speech_pad) + MIN_MAX_SPEECH_SECONDS
        if not self.max_speech_duration >= min_allowed:
            problems.append(f"max_speech_duration must be at least {min_allowed:g} s, got {self.max_speech_duration}")
        if problems:
            raise SettingsError("; ".join(problems))


@runtime_checkable
class SpeechDetector(Protocol):
    """Gives a speech probability for each frame of a stream."""

    hop_samples: int
    """Samples per frame."""

    def feed(self, block: Waveform) -> Float32[np.ndarray, "frames"]:
        """Probabilities of the next frames, possibly later than their audio."""

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """Probabilities of the frames held back."""

    def is_speech(self, begin: int, end: int) -> bool:
        """Whether frames `begin` to `end` as a whole are speech."""


def create_detector(method: str = "auto") -> SpeechDetector:
    """The detector of a name; `auto` is silero if it is installed, else energy.

    Raises `SettingsError` for an unknown name, `MissingExtraError` if silero is not installed.
    """
    if method not in VAD_METHODS:
        raise SettingsError(f"expected a voice activity detector of {', '.join(VAD_METHODS)}, got {method!r}")
    from whisperstill.audio import silero_vad as silero

    if method == "silero" or (method == "auto" and silero.is_installed()):
        return silero.SileroDetector()
    from whisperstill.audio.energy_vad import EnergyDetector

    return EnergyDetector()


def detect_speech_spans(
    audio: str | Path | Iterable[Block], options: VadOptions | None = None, method: str = "auto"
) -> Iterator[tuple[float, float]]:
    """Speech spans `(start, duration)` in seconds, in order, without overlap, each as soon as it is final.

    `audio` is a file or blocks of a 16 kHz waveform; the block size affects rounding only. Raises `SettingsError`,
    `MissingExtraError`; `AudioError` if a file cannot be decoded.
    """
    stream = VadStream(options, method)
    for block in stream_audio(audio) if isinstance(audio, str | Path) else audio:
        yield from stream.feed(block)
    yield from stream.finish()


class VadStream:
    """Speech spans of audio that comes block by block; inside, positions are samples from the start of the stream."""

    def __init__(self, options: VadOptions | None = None, method: str = "auto") -> None:
        """Raises `SettingsError` and `MissingExtraError`."""
        self.options = options or VadOptions()
        self.options.check()
        self.detector = create_detector(method)
        self.pad_samples = round(self.options.speech_pad * SAMPLE_RATE)
        self.max_speech_samples = self.options.max_speech_duration * SAMPLE_RATE - 2 * self.pad_samples
        self.num_samples = 0
        self.remainder = np.zeros(0, np.float32)
        """Samples of an incomplete chunk."""
        self.powers, self.first_frame = np.zeros(0), 0
        """Powers of 10 ms frames, from frame `first_frame` on."""
        self.position = 0
        """End of the frames tracked so far."""
        self.speech_start: int | None = None
        self.silence_start: int | None = None
        """Start of the pause that may end the open span."""
        self.pending_span: tuple[int, int, int] | None = None
        """The last span as (padded begin, begin, end); its end padding depends on the next span."""
        self.final_spans: list[tuple[int, int]] = []
        """Spans not returned yet."""
        self.emitted_until = 0
        """End of the last final span."""

    @property
    def finalized_until(self) -> float:
        """Seconds before which no further span begins."""
        begin = self._next_begin
        pending_begin = self.pending_span[0] if self.pending_span else begin
        return max(self.emitted_until, min(pending_begin, begin - self.pad_samples)) / SAMPLE_RATE

    def feed(self, block: Waveform) -> list[tuple[float, float]]:
        """The spans that are final after this block."""
        self.num_samples += len(block)
        block = np.concatenate([self.remainder, block]) if len(self.remainder) else block
        complete_samples = len(block) // CHUNK_SAMPLES * CHUNK_SAMPLES
        self.remainder = block[complete_samples:]
        for start in range(0, complete_samples, MAX_DETECT_SAMPLES):
            self._detect(block[start : min(start + MAX_DETECT_SAMPLES, complete_samples)])
        return self._take_final_spans()

    def finish(self) -> list[tuple[float, float]]:
        """The remaining spans."""
        if len(self.remainder):
            self._detect(np.pad(self.remainder, (0, CHUNK_SAMPLES - len(self.remainder))))
            self.remainder = self.remainder[:0]
        self._track(self.detector.finish())
        if self.speech_start is not None:
            end = min(self.position if self.silence_start is None else self.silence_start, self.num_samples)
            self._end_span(self.speech_start, end)
            self.speech_start = self.silence_start = None
        if self.pending_span:
            padded_begin, _, end = self.pending_span
            self._emit(padded_begin, min(self.num_samples, end + self.pad_samples))
        return self._take_final_spans()

    def _take_final_spans(self) -> list[tuple[float, float]]:
        spans, self.final_spans = self.final_spans, []
        return [(begin / SAMPLE_RATE, (end - begin) / SAMPLE_RATE) for begin, end in spans]

    @property
    def _next_begin(self) -> int:
        """Start of the open span, or the position where the next one may begin."""
        return self.position if self.speech_start is None else self.speech_start

    def _detect(self, block: Waveform) -> None:
        """Track a block of complete chunks; powers before the open span are dropped."""
        num_dropped = max(0, self._next_begin // HOP_SAMPLES - self.first_frame)
        self.first_frame += min(num_dropped, len(self.powers))
        self.powers = np.concatenate([self.powers[num_dropped:], frame_powers(block)])
        self._track(self.detector.feed(block))

    def _track(self, frames: Float32[np.ndarray, "frames"]) -> None:
        """Turn frame probabilities into spans."""
        threshold, min_silence_samples = self.options.threshold, self.options.min_silence_duration * SAMPLE_RATE
        neg_threshold = max(threshold - THRESHOLD_HYSTERESIS, MIN_NEG_THRESHOLD)
        for probability in frames.tolist():
            begin, self.position = self.position, self.position + self.detector.hop_samples
            # 1. Speech starts at `threshold`; a pause starts below `neg_threshold`, and frames between change nothing.
            if probability >= threshold:
                self.speech_start = begin if self.speech_start is None else self.speech_start
                self.silence_start = None
            elif self.speech_start is not None:
                if self.silence_start is None and probability < neg_threshold:
                    self.silence_start = begin
                # 2. A pause of `min_silence_duration` ends the span at the start of the pause.
                if self.silence_start is not None and self.position - self.silence_start >= min_silence_samples:
                    self._end_span(self.speech_start, self.silence_start)
                    self.speech_start = self.silence_start = None
            # 3. A span of the maximum length is cut at its quietest place.
            if self.speech_start is not None and self.position - self.speech_start >= self.max_speech_samples:
                self._split_at_quietest(self.speech_start)
        # 4. The pending span is final once the next one is too far away to limit its padding.
        if self.pending_span and self._next_begin - self.pending_span[2] >= 2 * self.pad_samples:
            self._emit(self.pending_span[0], min(self.num_samples, self.pending_span[2] + self.pad_samples))

    def _split_at_quietest(self, begin: int) -> None:
        low = (begin + int(self.max_speech_samples) // 2) // HOP_SAMPLES - self.first_frame
        high = (begin + int(self.max_speech_samples)) // HOP_SAMPLES - self.first_frame
        cut_sample = (self.first_frame + quietest_frame(self.powers, low, min(high, len(self.powers)))) * HOP_SAMPLES
        self.speech_start = min(cut_sample, self.position)
        self._end_span(begin, self.speech_start)
        self.silence_start = None if self.silence_start is None else max(self.silence_start, self.speech_start)

    def _end_span(self, begin: int, end: int) -> None:
        """Close a span: its end padding waits for the next span, that of the previous one is known now."""
        is_continuation = self.pending_span is not None and self.pending_span[2] == begin
        if end <= begin or (end - begin < self.options.min_speech_duration * SAMPLE_RATE and not is_continuation):
            return
        hop_samples = self.detector.hop_samples
        if not self.detector.is_speech(begin // hop_samples, -(-end // hop_samples)):
            return
        padded_begin = max(self.emitted_until, begin - self.pad_samples)
        if self.pending_span:
            previous_begin, _, previous_end = self.pending_span
            half_gap = (begin - previous_end) // 2
            self._emit(previous_begin, previous_end + min(self.pad_samples, half_gap))
            padded_begin = begin - min(self.pad_samples, half_gap)
        self.pending_span = (padded_begin, begin, end)

    def _emit(self, begin: int, end: int) -> None:
        self.final_spans.append((begin, end))
        self.pending_span, self.emitted_until = None, end
