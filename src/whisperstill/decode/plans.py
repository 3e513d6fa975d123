"""How one recording is heard: which windows there are, and what becomes of what is heard in them.

A plan is asked for windows and told what was heard. Some of its windows may wait for others: those of `sequential`
(`decode.sequential`) each begin where the one before ended. Here are the plans whose windows are known beforehand:
`quiet` cuts at the quietest places, `vad` leaves out all that is no speech.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float32

from whisperstill.audio.reader import Reader
from whisperstill.decode.guards import DOUBTED, FAR, SPARSE, Voice
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.transcript import (
    SHORTEST_REST,
    Segment,
    Suppressed,
    Transcript,
    Word,
    is_silent,
    joined,
    segments_of,
    stopped_at,
    with_words,
)
from whisperstill.decode.windows import Heard, Spoken, Window
from whisperstill.decode.words import align_words
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE


@dataclass(frozen=True)
class Setting:
    """What all plans of a run have in common."""

    recogniser: Recogniser
    options: DecodingOptions
    timestamps: bool

    @property
    def conditions(self) -> bool:
        """Whether the text before a window is its prompt, where windows come one after the other."""
        wanted = self.options.condition_on_previous_text
        return not self.recogniser.without_prompts if wanted is None else wanted

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens that stand before windows which do not have the text before them."""
        return self.recogniser.prompt(self.options.initial_prompt, self.options.hotwords)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens that the first window is taken to begin with: the first 111, so that there is room for others."""
        return tuple(self.recogniser.tokens_of(self.options.prefix)[: MAX_PROMPT_TOKENS // 2])

    @property
    def initial(self) -> list[int]:
        """The tokens of the text that stands before the first window as if it had been said."""
        return self.recogniser.tokens_of(self.options.initial_prompt)


@dataclass
class Plan(ABC):
    """One recording on its way to a transcript."""

    setting: Setting
    spoken: Spoken
    reader: Reader
    segments: list[Segment] = field(default_factory=list)
    """Final ones, in order: nothing that is still to be heard comes before them."""
    suppressed: list[Suppressed] = field(default_factory=list)
    duration: float = 0.0
    """Seconds known of so far."""
    reached: float = 0.0
    """Seconds up to which something was heard: for a progress bar."""
    _language_from: float = math.inf
    """Where the window begins whose language is the recording's, where each has its own: the first one with a voice."""
    _told: int = 0
    """Segments that `settled` gave."""

    @abstractmethod
    def next(self) -> Window | None:
        """A window to be heard now; None while there is none."""

    @abstractmethod
    def take(self, heard: Heard) -> None:
        """What was heard in one of its windows, in whatever order."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether everything was heard."""

    def settled(self) -> list[Segment]:
        """The segments that became final since this was last asked."""
        fresh = self.segments[self._told :]
        self._told = len(self.segments)
        return fresh

    def settle(self, segments: Sequence[Segment]) -> None:
        """These are the next final ones."""
        self.segments += [replace(one, id=len(self.segments) + number) for number, one in enumerate(segments)]

    def transcript(self) -> Transcript:
        """What was heard."""
        language, segments = self.spoken.code or "en", tuple(self.segments)
        probability = self.spoken.probability if self.spoken.code else 0.0
        duration = max(self.duration, self.reader.duration or 0.0)
        broken, text = self.reader.broken, joined(segments, self.setting.options.written_in(language))
        gone = tuple(_told_once(self.suppressed))
        why, translated = str(broken) if broken else None, self.setting.options.task == "translate"
        return Transcript(text, segments, language, probability, duration, gone, why, translated)

    def window(
        self,
        start: float,
        waveform: Float32[np.ndarray, "samples"],
        prompt: tuple[int, ...] | None = None,
        prefix: tuple[int, ...] = (),
    ) -> Window:
        """A window of this recording."""
        duration = len(waveform) / SAMPLE_RATE
        self.duration = max(self.duration, start + duration)
        spoken = Spoken() if self.setting.options.multilingual else self.spoken
        before = self.setting.prompt if prompt is None else prompt
        voice = Voice.of(waveform) if self.setting.options.guards else None
        return Window(start, waveform, duration, spoken, before, prefix, self, voice)

    def believed(self, heard: Heard) -> bool:
        """Whether a window holds speech; what was said of one that does not, and what was cut from it, is noted."""
        window, text = heard.window, heard.recognised.text
        if window.spoken is not self.spoken and window.spoken.code and window.start < self._language_from:
            self.spoken.code, self.spoken.probability = window.spoken.code, window.spoken.probability
            self._language_from = window.start
        if heard.looped:
            self._suppress(window.start, window.start + window.duration, heard.looped, "loop")
        if window.voice is not None and not window.voice.spans:
            self._suppress(window.start, window.start + window.duration, "", "no voice")
            return False
        if (why := self._not_believed(heard)) is not None:
            if text:
                self._suppress(window.start, window.start + window.duration, text, why)
            return False
        return True

    def _not_believed(self, heard: Heard) -> str | None:
        """Why a window in which somebody seems to speak holds no speech after all; None where it does."""
        options, recognised, voice = self.setting.options, heard.recognised, heard.window.voice
        if is_silent(recognised, options):
            return "silence"
        if voice is None:
            return None
        sparse = voice.seconds() < SPARSE * heard.window.duration
        if sparse and options.logprob_threshold and recognised.mean_logprob < DOUBTED * options.logprob_threshold:
            return "doubted"
        # A moment that a detector takes for a voice (a chord, a bird) is enough for the network to say a sentence.
        quiet = is_silent(recognised, replace(options, logprob_threshold=None))
        return "more text than voice" if quiet and not voice.has_room_for(recognised.text) else None

    def found(self, heard: Heard, until: float = math.inf) -> list[Segment]:
        """The segments of a window that are believed, with their words where these are asked for.

        One that begins at `until` or later, in seconds of the recording, is only opened and will be heard again.
        """
        setting, window = self.setting, heard.window
        if not self.believed(heard):
            return []
        segments = segments_of(
            heard.recognised, window.start, window.duration, setting.recogniser.tokenizer, setting.timestamps
        )
        segments = [replace(one, temperature=heard.temperature) for one in segments if one.start < until]
        if setting.options.word_timestamps and segments:
            segments = with_words(segments, self.words(heard))
        believed = []
        for one in segments:
            if self._is_near_voice(window, one.start, one.end):
                believed.append(one)
            else:
                self._suppress(one.start, one.end, one.text.strip(), "far from any voice")
        return believed

    @staticmethod
    def _is_near_voice(window: Window, start: float, end: float) -> bool:
        """Whether somebody speaks where something is said to be, as far as anybody looked."""
        return window.voice is None or not window.voice.is_far(start - window.start, end - window.start)

    def _suppress(self, start: float, end: float, text: str, reason: str) -> None:
        self.suppressed.append(Suppressed(round(start, 3), round(end, 3), text, reason))

    def left_at(self, heard: Heard) -> float | None:
        """Seconds at which a window was left unheard (`stopped_at`), or ended though somebody goes on speaking.

        None where it was heard to its end, and where no timestamps say so.
        """
        window, vocabulary = heard.window, self.setting.recogniser.vocabulary
        if not self.setting.timestamps:
            return None
        at = stopped_at(heard.recognised, window.duration, vocabulary)
        tokens = heard.recognised.decoded.tokens
        times = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
        # A last segment without an end lasts to the window's.
        if at is not None or window.voice is None or (tokens and not vocabulary.is_timestamp(tokens[-1])):
            return at
        last = times[-1] if times else 0.0
        if last < SHORTEST_REST or window.duration - last < FAR + SHORTEST_REST:
            return None
        return last if window.voice.seconds(last + FAR) >= SHORTEST_REST else None

    def words(self, heard: Heard, until: float | None = None) -> list[Word]:
        """The words of a window, in seconds of the recording; they were said in its first `until` seconds."""
        window, setting = heard.window, self.setting
        [found] = align_words(
            setting.recogniser,
            heard.states[None],
            [heard.recognised],
            [min(window.duration, until or window.duration)],
            waveforms=torch.from_numpy(window.waveform)[None],
            options=setting.options,
            prefixes=[window.prefix],
        )
        at = window.start
        moved = (replace(word, start=round(at + word.start, 3), end=round(at + word.end, 3)) for word in found)
        return list(moved)


def _told_once(suppressed: Sequence[Suppressed]) -> Iterator[Suppressed]:
    """In order; stretches without text that meet or overlap, as windows do, are one."""
    before: Suppressed | None = None
    for one in sorted(suppressed, key=lambda one: (one.start, one.end)):
        if (
            before is not None
            and one.start <= before.end
            and before.reason == one.reason
            and not before.text + one.text
        ):
            before = replace(before, end=max(before.end, one.end))
            continue
        if before is not None:
            yield before
        before = one
    if before is not None:
        yield before


Cuts = Iterator[tuple[float, Float32[np.ndarray, "samples"]]]
"""Windows: when each starts, in seconds, and its waveform."""


class Apart(Plan):
    """Windows that are known beforehand and do not overlap."""

    def __init__(self, setting: Setting, spoken: Spoken, reader: Reader, cuts: Cuts) -> None:
        super().__init__(setting, spoken, reader)
        self._cuts = cuts
        self._again: deque[Window] = deque()
        self._out: list[float] = []
        """Where the windows begin that are still to be heard, as far as they were read."""
        self._waiting: list[Segment] = []
        """Segments that such a window may come before."""
        self._read_all, self._first = False, True

    def next(self) -> Window | None:
        """See `Plan`."""
        if self._again:
            return self._again.popleft()
        if self._read_all:
            return None
        cut = next(self._cuts, None)
        if cut is None:
            self._read_all = True
            return None
        self._out.append(cut[0])
        prefix, self._first = self.setting.prefix if self._first else (), False
        return self.window(cut[0], cut[1], prefix=prefix)

    def take(self, heard: Heard) -> None:
        """See `Plan`. What the network left of a window is a window of its own."""
        window = heard.window
        self._out.remove(window.start)
        self._waiting += self.found(heard)
        if not is_silent(heard.recognised, self.setting.options) and (at := self.left_at(heard)) is not None:
            rest = window.waveform[round(at * SAMPLE_RATE) :]
            self._again.append(self.window(window.start + at, rest, window.prompt))
            self._out.append(window.start + at)
        self._waiting.sort(key=lambda one: (one.start, one.end))
        final = bisect_left(self._waiting, min(self._out, default=math.inf), key=lambda one: one.start)
        self.settle(self._waiting[:final])
        del self._waiting[:final]

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._read_all and not self._out
