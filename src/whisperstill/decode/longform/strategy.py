"""How one recording is heard: which windows there are, and what becomes of what is heard in them.

A plan is asked for windows and told what was heard. Some of its windows may wait for others: those of `sequential`
(`decode.sequential`) each begin where the one before ended. Here are the plans whose windows are known beforehand:
`silence` cuts at the quietest places, `vad` leaves out all that is no speech.
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

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.longform.hallucination_filter import (
    DOUBTFUL_LOGPROB_FACTOR,
    MAX_DISTANCE_FROM_SPEECH_S,
    SPARSE_SPEECH_RATIO,
    SpeechSpans,
)
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import (
    MIN_REMAINDER_S,
    FilteredSegment,
    Segment,
    Transcript,
    Word,
    attach_words,
    is_silent,
    join_segments,
    split_into_segments,
    unfinished_at,
)
from whisperstill.decode.prompts import build_prompt, tokenize_text
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.decode.word_timestamps.align import align_words
from whisperstill.units import MAX_PROMPT_TOKENS, SAMPLE_RATE


@dataclass(frozen=True)
class LongFormContext:
    """What all plans of a run have in common."""

    model: WhisperModel
    options: DecodingOptions
    timestamps: bool

    @property
    def condition_on_previous_text(self) -> bool:
        """Whether the text before a window is its prompt, where windows come one after the other."""
        requested = self.options.condition_on_previous_text
        return not self.model.trained_without_prompts if requested is None else requested

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens that stand before windows which do not have the text before them."""
        return build_prompt(self.model.tokenizer, self.options.initial_prompt, self.options.hotwords)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens that the first window is taken to begin with: the first 111, so that there is room for others."""
        return tuple(tokenize_text(self.model.tokenizer, self.options.prefix)[: MAX_PROMPT_TOKENS // 2])

    @property
    def initial_prompt_tokens(self) -> list[int]:
        """The tokens of the text that stands before the first window as if it had been said."""
        return tokenize_text(self.model.tokenizer, self.options.initial_prompt)


@dataclass
class LongFormStrategy(ABC):
    """One recording on its way to a transcript."""

    context: LongFormContext
    detected_language: DetectedLanguage
    reader: AudioReader
    segments: list[Segment] = field(default_factory=list)
    """Final ones, in order: nothing that is still to be heard comes before them."""
    filtered_segments: list[FilteredSegment] = field(default_factory=list)
    duration: float = 0.0
    """Seconds known of so far."""
    progress_seconds: float = 0.0
    """Seconds up to which something was heard: for a progress bar."""
    _language_window_start: float = math.inf
    """Where the window begins whose language is the recording's, where each has its own: the first one with a voice."""
    _num_popped: int = 0
    """Segments that `settled` gave."""

    @abstractmethod
    def next_window(self) -> AudioWindow | None:
        """A window to be heard now; None while there is none."""

    @abstractmethod
    def on_result(self, result: WindowResult) -> None:
        """What was heard in one of its windows, in whatever order."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether everything was heard."""

    def pop_final_segments(self) -> list[Segment]:
        """The segments that became final since this was last asked."""
        new_segments = self.segments[self._num_popped :]
        self._num_popped = len(self.segments)
        return new_segments

    def add_final_segments(self, segments: Sequence[Segment]) -> None:
        """These are the next final ones."""
        self.segments += [replace(segment, id=len(self.segments) + index) for index, segment in enumerate(segments)]

    def build_transcript(self) -> Transcript:
        """What was heard."""
        language, segments = self.detected_language.code or "en", tuple(self.segments)
        probability = self.detected_language.probability if self.detected_language.code else 0.0
        duration = max(self.duration, self.reader.duration or 0.0)
        error, text = self.reader.read_error, join_segments(segments, self.context.options.output_language(language))
        filtered_segments = tuple(_merge_filtered_segments(self.filtered_segments))
        read_error, translated = str(error) if error else None, self.context.options.task == "translate"
        return Transcript(text, segments, language, probability, duration, filtered_segments, read_error, translated)

    def make_window(
        self,
        start: float,
        waveform: Float32[np.ndarray, "samples"],
        prompt: tuple[int, ...] | None = None,
        prefix: tuple[int, ...] = (),
    ) -> AudioWindow:
        """A window of this recording."""
        duration = len(waveform) / SAMPLE_RATE
        self.duration = max(self.duration, start + duration)
        detected_language = DetectedLanguage() if self.context.options.multilingual else self.detected_language
        window_prompt = self.context.prompt if prompt is None else prompt
        speech = SpeechSpans.detect(waveform) if self.context.options.hallucination_filter else None
        return AudioWindow(start, waveform, duration, detected_language, window_prompt, prefix, self, speech)

    def accept(self, result: WindowResult) -> bool:
        """Whether a window holds speech; what was said of one that does not, and what was cut from it, is noted."""
        window, text = result.window, result.window_transcript.text
        if (
            window.detected_language is not self.detected_language
            and window.detected_language.code
            and window.start < self._language_window_start
        ):
            self.detected_language.code, self.detected_language.probability = (
                window.detected_language.code,
                window.detected_language.probability,
            )
            self._language_window_start = window.start
        if result.loop_text:
            self._add_filtered_segment(
                window.start, window.start + window.duration, result.loop_text, "repetition loop"
            )
        if window.speech is not None and not window.speech.spans:
            self._add_filtered_segment(window.start, window.start + window.duration, "", "no speech")
            return False
        if (reason := self._rejection_reason(result)) is not None:
            if text:
                self._add_filtered_segment(window.start, window.start + window.duration, text, reason)
            return False
        return True

    def _rejection_reason(self, result: WindowResult) -> str | None:
        """Why a window in which somebody seems to speak holds no speech after all; None where it does."""
        options, window_transcript, speech = self.context.options, result.window_transcript, result.window.speech
        if is_silent(window_transcript, options):
            return "no_speech threshold"
        if speech is None:
            return None
        is_sparse = speech.speech_seconds() < SPARSE_SPEECH_RATIO * result.window.duration
        if (
            is_sparse
            and options.logprob_threshold
            and window_transcript.avg_logprob < DOUBTFUL_LOGPROB_FACTOR * options.logprob_threshold
        ):
            return "low log-probability"
        # A moment that a detector takes for a voice (a chord, a bird) is enough for the network to say a sentence.
        no_speech_likely = is_silent(window_transcript, replace(options, logprob_threshold=None))
        return (
            "more text than speech"
            if no_speech_likely and not speech.is_plausible_length(window_transcript.text)
            else None
        )

    def segments_from(self, result: WindowResult, until: float = math.inf) -> list[Segment]:
        """The segments of a window that are believed, with their words where these are asked for.

        One that begins at `until` or later, in seconds of the recording, is only opened and will be heard again.
        """
        context, window = self.context, result.window
        if not self.accept(result):
            return []
        segments = split_into_segments(
            result.window_transcript, window.start, window.duration, context.model.tokenizer, context.timestamps
        )
        segments = [replace(segment, temperature=result.temperature) for segment in segments if segment.start < until]
        if context.options.word_timestamps and segments:
            segments = attach_words(segments, self.words_from(result))
        accepted = []
        for segment in segments:
            if self._is_near_speech(window, segment.start, segment.end):
                accepted.append(segment)
            else:
                self._add_filtered_segment(segment.start, segment.end, segment.text.strip(), "far from speech")
        return accepted

    @staticmethod
    def _is_near_speech(window: AudioWindow, start: float, end: float) -> bool:
        """Whether somebody speaks where something is said to be, as far as anybody looked."""
        return window.speech is None or not window.speech.is_far_from_speech(start - window.start, end - window.start)

    def _add_filtered_segment(self, start: float, end: float, text: str, reason: str) -> None:
        self.filtered_segments.append(FilteredSegment(round(start, 3), round(end, 3), text, reason))

    def resume_at(self, result: WindowResult) -> float | None:
        """Seconds at which a window was left unheard (`stopped_at`), or ended though somebody goes on speaking.

        None where it was heard to its end, and where no timestamps say so.
        """
        window, vocabulary = result.window, self.context.model.vocabulary
        if not self.context.timestamps:
            return None
        resume_seconds = unfinished_at(result.window_transcript, window.duration, vocabulary)
        tokens = result.window_transcript.result.tokens
        timestamps = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
        # A last segment without an end lasts to the window's.
        if resume_seconds is not None or window.speech is None or (tokens and not vocabulary.is_timestamp(tokens[-1])):
            return resume_seconds
        last_timestamp = timestamps[-1] if timestamps else 0.0
        if (
            last_timestamp < MIN_REMAINDER_S
            or window.duration - last_timestamp < MAX_DISTANCE_FROM_SPEECH_S + MIN_REMAINDER_S
        ):
            return None
        return (
            last_timestamp
            if window.speech.speech_seconds(last_timestamp + MAX_DISTANCE_FROM_SPEECH_S) >= MIN_REMAINDER_S
            else None
        )

    def words_from(self, result: WindowResult, until: float | None = None) -> list[Word]:
        """The words of a window, in seconds of the recording; they were said in its first `until` seconds."""
        window, context = result.window, self.context
        [words] = align_words(
            context.model,
            result.states[None],
            [result.window_transcript],
            [min(window.duration, until or window.duration)],
            waveforms=torch.from_numpy(window.waveform)[None],
            options=context.options,
            prefixes=[window.prefix],
        )
        offset = window.start
        shifted_words = (
            replace(word, start=round(offset + word.start, 3), end=round(offset + word.end, 3)) for word in words
        )
        return list(shifted_words)


def _merge_filtered_segments(filtered_segments: Sequence[FilteredSegment]) -> Iterator[FilteredSegment]:
    """In order; stretches without text that meet or overlap, as windows do, are one."""
    previous: FilteredSegment | None = None
    for segment in sorted(filtered_segments, key=lambda segment: (segment.start, segment.end)):
        if (
            previous is not None
            and segment.start <= previous.end
            and previous.reason == segment.reason
            and not previous.text + segment.text
        ):
            previous = replace(previous, end=max(previous.end, segment.end))
            continue
        if previous is not None:
            yield previous
        previous = segment
    if previous is not None:
        yield previous


TimedWaveforms = Iterator[tuple[float, Float32[np.ndarray, "samples"]]]
"""Windows: when each starts, in seconds, and its waveform."""


class NonOverlapping(LongFormStrategy):
    """Windows that are known beforehand and do not overlap."""

    def __init__(
        self,
        context: LongFormContext,
        detected_language: DetectedLanguage,
        reader: AudioReader,
        timed_waveforms: TimedWaveforms,
    ) -> None:
        super().__init__(context, detected_language, reader)
        self._timed_waveforms = timed_waveforms
        self._remainders: deque[AudioWindow] = deque()
        self._pending_starts: list[float] = []
        """Where the windows begin that are still to be heard, as far as they were read."""
        self._held_segments: list[Segment] = []
        """Segments that such a window may come before."""
        self._all_read, self._is_first = False, True

    def next_window(self) -> AudioWindow | None:
        """See `Plan`."""
        if self._remainders:
            return self._remainders.popleft()
        if self._all_read:
            return None
        timed_waveform = next(self._timed_waveforms, None)
        if timed_waveform is None:
            self._all_read = True
            return None
        self._pending_starts.append(timed_waveform[0])
        prefix, self._is_first = self.context.prefix if self._is_first else (), False
        return self.make_window(timed_waveform[0], timed_waveform[1], prefix=prefix)

    def on_result(self, result: WindowResult) -> None:
        """See `Plan`. What the network left of a window is a window of its own."""
        window = result.window
        self._pending_starts.remove(window.start)
        self._held_segments += self.segments_from(result)
        if (
            not is_silent(result.window_transcript, self.context.options)
            and (resume_seconds := self.resume_at(result)) is not None
        ):
            remainder = window.waveform[round(resume_seconds * SAMPLE_RATE) :]
            self._remainders.append(self.make_window(window.start + resume_seconds, remainder, window.prompt))
            self._pending_starts.append(window.start + resume_seconds)
        self._held_segments.sort(key=lambda segment: (segment.start, segment.end))
        num_final = bisect_left(
            self._held_segments, min(self._pending_starts, default=math.inf), key=lambda segment: segment.start
        )
        self.add_final_segments(self._held_segments[:num_final])
        del self._held_segments[:num_final]

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._all_read and not self._pending_starts
