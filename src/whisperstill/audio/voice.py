"""Where speech is: stretches of a recording of any length, found while it is read.

Two detectors are known: `silero` (a network; needs the extra `vad`) and `energy` (see `audio.energy`; needs nothing and
tells no dog from a speaker). Either says for every frame how much it looks like speech; this module makes stretches of
that, by the options known from faster-whisper. What is kept in memory is the stretch that is open, as powers of 10 ms
frames, whatever the recording's length.

A stretch that reaches `max_speech_duration` without a pause is cut at the quietest place of its second half, while it
is still going on: nothing has to wait for the end of a speech.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.activity import quietest
from whisperstill.audio.files import stream_audio
from whisperstill.errors import SettingsError
from whisperstill.units import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS

METHODS = ("auto", "silero", "energy")
CHUNK_SAMPLES = 2560  # 160 ms: whole frames of either detector
LOOK_SAMPLES = 64 * CHUNK_SAMPLES  # looked at together, at most: 10 s
HYSTERESIS = 0.15
LEAST_NEGATIVE = 0.01
SHORTEST_MAXIMUM = 2.0  # seconds: below it there is no choice of places to cut


@dataclass(frozen=True)
class VoiceOptions:
    """What counts as a stretch of speech; names as in faster-whisper, but all durations in seconds."""

    threshold: float = 0.5
    """Probability from which on a frame is speech; it ends 0.15 below. Energy knows only 0 and 1."""
    min_speech_duration: float = 0.0
    """Stretches shorter than this are dropped."""
    max_speech_duration: float = WINDOW_SECONDS
    """Stretches longer than this (their padding included) are cut at their quietest place."""
    min_silence_duration: float = 0.3
    """Pauses shorter than this belong to the speech around them."""
    speech_pad: float = 0.4
    """Added at both ends of a stretch; between two that are near, half of the pause each."""

    def check(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        if not 0 < self.threshold < 1:
            problems.append(f"threshold must be between 0 and 1, got {self.threshold}")
        for name in ("min_speech_duration", "min_silence_duration", "speech_pad"):
            if not getattr(self, name) >= 0:
                problems.append(f"{name} must be at least 0 s, got {getattr(self, name)}")
        least = 2 * max(0.0, self.speech_pad) + SHORTEST_MAXIMUM
        if not self.max_speech_duration >= least:
            problems.append(f"max_speech_duration must be at least {least:g} s, got {self.max_speech_duration}")
        if problems:
            raise SettingsError("; ".join(problems))


@runtime_checkable
class Detector(Protocol):
    """What looks at a stream of audio and says how much each frame looks like speech."""

    hop: int
    """Samples to a frame."""

    def feed(self, block: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "frames"]:
        """0 to 1 for the next frames; they may come later than their audio."""
        ...

    def finish(self) -> Float32[np.ndarray, "frames"]:
        """The frames that were held back."""
        ...

    def believes(self, begin: int, end: int) -> bool:
        """Whether a stretch of frames is speech as a whole."""
        ...


def detector_of(method: str = "auto") -> Detector:
    """The detector of a name; `auto` takes silero where its weights are installed.

    Raises `SettingsError` for another name, `MissingExtraError` where silero is asked for and not installed.
    """
    if method not in METHODS:
        raise SettingsError(f"expected a voice detector out of {', '.join(METHODS)}, got {method!r}")
    from whisperstill.audio import silero

    if method == "silero" or (method == "auto" and silero.installed()):
        return silero.Silero()
    from whisperstill.audio.energy import Energy

    return Energy()


def voice_spans(
    audio: str | Path | Iterable[Float32[np.ndarray, "_"]],
    options: VoiceOptions | None = None,
    method: str = "auto",
) -> Iterator[tuple[float, float]]:
    """Stretches `(start, duration)` with speech, in seconds, in order, without overlap, each as soon as it is certain.

    `audio` is a file or blocks of a 16 kHz waveform. How it is divided into blocks changes nothing but rounding.
    Raises `SettingsError`, `MissingExtraError`; `AudioError` when a file cannot be decoded.
    """
    stream = VoiceStream(options, method)
    for block in stream_audio(audio) if isinstance(audio, str | Path) else audio:
        yield from stream.feed(block)
    yield from stream.finish()


class VoiceStream:
    """Speech in audio that comes block by block."""

    def __init__(self, options: VoiceOptions | None = None, method: str = "auto") -> None:
        """Raises `SettingsError` and `MissingExtraError`."""
        self.options = options or VoiceOptions()
        self.options.check()
        self.detector = detector_of(method)
        self.tracker = _Tracker(self.options, self.detector)
        self.rest = np.zeros(0, np.float32)
        self.samples = 0

    @property
    def settled(self) -> float:
        """Seconds: no stretch that is still to come begins earlier."""
        return self.tracker.settled / SAMPLE_RATE

    def feed(self, block: Float32[np.ndarray, "samples"]) -> list[tuple[float, float]]:
        """The stretches that this block makes certain."""
        self.samples += len(block)
        block = np.concatenate([self.rest, block]) if len(self.rest) else block
        whole = len(block) // CHUNK_SAMPLES * CHUNK_SAMPLES
        self.rest = block[whole:]
        spans = []
        for at in range(0, whole, LOOK_SAMPLES):
            spans += self._look(block[at : min(at + LOOK_SAMPLES, whole)])
        return spans

    def finish(self) -> list[tuple[float, float]]:
        """The stretches that the end of the audio makes certain."""
        spans = []
        if len(self.rest):
            spans += self._look(np.pad(self.rest, (0, CHUNK_SAMPLES - len(self.rest))))
            self.rest = self.rest[:0]
        spans += self._spans(self.tracker.track(self.detector.finish()))
        return spans + self._spans(self.tracker.close(self.samples))

    def _look(self, block: Float32[np.ndarray, "samples"]) -> list[tuple[float, float]]:
        self.tracker.hear(block)
        return self._spans(self.tracker.track(self.detector.feed(block)))

    @staticmethod
    def _spans(found: list[tuple[int, int]]) -> list[tuple[float, float]]:
        return [(begin / SAMPLE_RATE, (end - begin) / SAMPLE_RATE) for begin, end in found]


class _Tracker:
    """From frames to stretches. All places are samples from the beginning."""

    def __init__(self, options: VoiceOptions, detector: Detector) -> None:
        self.detector, self.hop = detector, detector.hop
        self.high = options.threshold
        self.low = max(options.threshold - HYSTERESIS, LEAST_NEGATIVE)
        self.pad = round(options.speech_pad * SAMPLE_RATE)
        self.least = options.min_speech_duration * SAMPLE_RATE
        self.most = options.max_speech_duration * SAMPLE_RATE - 2 * self.pad
        self.pause = options.min_silence_duration * SAMPLE_RATE
        self.at = 0
        """What has been decided on."""
        self.open: int | None = None
        self.quiet: int | None = None
        """Where the quiet began that the open stretch may end with."""
        self.held: tuple[int, int, int] | None = None
        """The last stretch, with its beginning padded and as it was found: its padding waits for what follows."""
        self.closed = 0
        """End of the last stretch that was given away."""
        self.powers, self.first = np.zeros(0), 0
        """Mean square of 10 ms frames, from frame `first` on."""

    @property
    def settled(self) -> int:
        """No stretch still to come begins before this place."""
        begin = self.at if self.open is None else self.open
        return max(self.closed, min(self.held[0] if self.held else begin, begin - self.pad))

    def hear(self, block: Float32[np.ndarray, "samples"]) -> None:
        """Keep the powers of what may have to be cut."""
        forget = max(0, (self.at if self.open is None else self.open) // HOP_SAMPLES - self.first)
        fresh = np.square(block, dtype=np.float64).reshape(-1, HOP_SAMPLES).mean(axis=1)
        self.powers, self.first = (
            np.concatenate([self.powers[forget:], fresh]),
            self.first + min(forget, len(self.powers)),
        )

    def track(self, frames: Float32[np.ndarray, "frames"]) -> list[tuple[int, int]]:
        """The stretches that are certain after these frames."""
        found: list[tuple[int, int]] = []
        for probability in frames.tolist():
            begin, self.at = self.at, self.at + self.hop
            if probability >= self.high:
                self.open = begin if self.open is None else self.open
                self.quiet = None
            elif self.open is not None:
                if self.quiet is None and probability < self.low:
                    self.quiet = begin
                if self.quiet is not None and self.at - self.quiet >= self.pause:
                    self._end(self.open, self.quiet, found)
                    self.open = self.quiet = None
            if self.open is not None and self.at - self.open >= self.most:
                self._cut(found)
        self._release(found)
        return found

    def close(self, samples: int) -> list[tuple[int, int]]:
        """The stretches that are left, in a recording of as many samples."""
        found: list[tuple[int, int]] = []
        if self.open is not None:
            end = min(self.at if self.quiet is None else self.quiet, samples)
            self._end(self.open, end, found)
            self.open = self.quiet = None
        if self.held:
            padded, _, end = self.held
            self._give(padded, min(samples, end + self.pad), found)
        return found

    def _cut(self, found: list[tuple[int, int]]) -> None:
        assert self.open is not None
        low = (self.open + int(self.most) // 2) // HOP_SAMPLES - self.first
        high = (self.open + int(self.most)) // HOP_SAMPLES - self.first
        place = (self.first + quietest(self.powers, low, min(high, len(self.powers)))) * HOP_SAMPLES
        place = min(place, self.at)
        self._end(self.open, place, found)
        self.open = place
        self.quiet = None if self.quiet is None else max(self.quiet, place)

    def _end(self, begin: int, end: int, found: list[tuple[int, int]]) -> None:
        """A stretch is over: its padding waits, that of the one before is known now."""
        goes_on = self.held is not None and self.held[2] == begin
        if end <= begin or (end - begin < self.least and not goes_on):
            return
        if not self.detector.believes(begin // self.hop, -(-end // self.hop)):
            return
        padded = max(self.closed, begin - self.pad)
        if self.held:
            before, _, until = self.held
            half = (begin - until) // 2
            self._give(before, until + min(self.pad, half), found)
            padded = begin - min(self.pad, half)
        self.held = (padded, begin, end)

    def _release(self, found: list[tuple[int, int]]) -> None:
        """Give the last stretch away once whatever follows is too far for its padding."""
        begin = self.at if self.open is None else self.open
        if self.held and begin - self.held[2] >= 2 * self.pad:
            self._give(self.held[0], self.held[2] + self.pad, found)

    def _give(self, begin: int, end: int, found: list[tuple[int, int]]) -> None:
        found.append((begin, end))
        self.held, self.closed = None, end
