"""Hallucination filter: text without speech, text far from speech, and repetition loops.

Whisper was trained on subtitles and transcribes silence, noise and music as "thank you": large-v3 emits words on more
than half of all non-speech clips. Its own no-speech probability catches some of that; a voice activity detector, which
looks at the audio and not at the text, catches most of the rest. Windows without speech are not decoded at all
(`WindowDecoder`). Everything removed is recorded with its reason (`FilteredSegment`).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import FilteredSegment, Segment, Word, compression_ratio
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

DOUBTFUL_LOGPROB_FACTOR = 1.5
"""Multiple of `logprob_threshold` below which a window with little speech is filtered. After all temperatures, dishes
and engines score -1.8 to -2.9; speech scores that low only where the model understands next to nothing."""
SPARSE_SPEECH_RATIO = 0.5
"""Fraction of the window that is speech, below which a low log-probability counts: detectors take short sounds for
speech, but where speech fills the window a bad transcript is better than none."""
MIN_LOOP_COMPRESSION_RATIO = 2.4
"""Compression ratio above which loops are searched for."""
MIN_LOOP_COPIES = 5
"""Consecutive copies of a phrase that make a loop."""
MIN_LOOP_TOKENS = 12
"""Tokens of all copies of a loop together."""
MAX_LOOP_PERIOD_TOKENS = 64
"""Tokens of the longest phrase searched for."""


def is_silent(window_transcript: WindowTranscript, options: DecodingOptions) -> bool:
    """Whether a window holds no speech: high no-speech probability and low log-probability (openai/whisper's rule)."""
    if options.no_speech_threshold is None or window_transcript.result.no_speech_prob <= options.no_speech_threshold:
        return False
    return options.logprob_threshold is None or window_transcript.avg_logprob <= options.logprob_threshold


class HallucinationFilter:
    """Removes hallucinated windows, segments and words of one recording, and records what it removed."""

    def __init__(self, options: DecodingOptions) -> None:
        self._options = options
        self.filtered_segments: list[FilteredSegment] = []

    def accept_window(self, result: WindowResult) -> bool:
        """Whether the window holds speech. Records the text of a rejected window, and loops removed from it."""
        window, text = result.window, result.window_transcript.text
        window_end = window.start + window.duration
        if result.loop_text:
            self._record(window.start, window_end, result.loop_text, "repetition loop")
        if window.speech is not None and not window.speech.spans:
            self._record(window.start, window_end, "", "no speech")
            return False
        reason = self._rejection_reason(result)
        if reason is not None and text:
            self._record(window.start, window_end, text, reason)
        return reason is None

    def drop_far_segments(self, window: AudioWindow, segments: Sequence[Segment]) -> list[Segment]:
        """The segments near speech; the others are recorded one by one."""
        near_segments = [segment for segment in segments if _is_near_speech(window, segment.start, segment.end)]
        for segment in segments:
            if segment not in near_segments:
                self._record(segment.start, segment.end, segment.text.strip(), "far from speech")
        return near_segments

    def drop_far_words(self, window: AudioWindow, words: Sequence[Word]) -> list[Word]:
        """The words near speech; the others are recorded, consecutive ones as one segment."""
        near_words: list[Word] = []
        for is_near, group in groupby(words, lambda word: _is_near_speech(window, word.start, word.end)):
            run = list(group)
            if is_near:
                near_words += run
            else:
                text = "".join(word.word for word in run)
                self._record(run[0].start, run[-1].end, text.strip(), "far from speech")
        return near_words

    def merged_segments(self) -> list[FilteredSegment]:
        """What was removed so far, in order; overlapping stretches without text, as windows have them, are merged."""
        merged: list[FilteredSegment] = []
        for segment in sorted(self.filtered_segments, key=lambda segment: (segment.start, segment.end)):
            overlaps = merged and segment.start <= merged[-1].end and merged[-1].reason == segment.reason
            if overlaps and not merged[-1].text + segment.text:
                merged[-1] = replace(merged[-1], end=max(merged[-1].end, segment.end))
            else:
                merged.append(segment)
        return merged

    def _record(self, start: float, end: float, text: str, reason: str) -> None:
        self.filtered_segments.append(FilteredSegment(round(start, 3), round(end, 3), text, reason))

    def _rejection_reason(self, result: WindowResult) -> str | None:
        """Why the transcript of a window with detected speech is a hallucination; None if it is not."""
        options, window_transcript, speech = self._options, result.window_transcript, result.window.speech
        if is_silent(window_transcript, options):
            return "no_speech threshold"
        if speech is None:
            return None
        min_logprob = DOUBTFUL_LOGPROB_FACTOR * (options.logprob_threshold or -math.inf)
        is_sparse = speech.speech_seconds() < SPARSE_SPEECH_RATIO * result.window.duration
        if is_sparse and window_transcript.avg_logprob < min_logprob:
            return "low log-probability"
        # A short sound the detector takes for speech (a chord, a bird) is enough for the model to emit a sentence.
        no_speech_likely = is_silent(window_transcript, replace(options, logprob_threshold=None))
        if no_speech_likely and not speech.is_plausible_length(window_transcript.text):
            return "more text than speech"
        return None


def remove_loops(window_transcript: WindowTranscript, tokenizer: Tokenizer) -> tuple[WindowTranscript, str]:
    """The transcript without repetition loops, and the text removed."""
    if compression_ratio(window_transcript.text) <= MIN_LOOP_COMPRESSION_RATIO:
        return window_transcript, ""
    tokens = window_transcript.result.tokens
    loop_indices = find_repetition_loops(tokens, tokenizer.vocabulary)
    loop_text = tokenizer.decode([tokens[index] for index in loop_indices]).strip()
    result = drop_tokens(window_transcript.result, loop_indices)
    return WindowTranscript(window_transcript.language, tokenizer.decode(result.tokens).strip(), result), loop_text


def find_repetition_loops(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Indices of tokens that repeat the tokens before them; the first copy of each loop is not included.

    A loop is a phrase repeated `MIN_LOOP_COPIES` times or more without another word between. Timestamps are ignored.
    """
    text_indices = [index for index, token in enumerate(tokens) if vocabulary.is_text(token)]
    text_tokens = np.array([tokens[index] for index in text_indices], dtype=np.int64)
    # 1. For every period: runs of tokens equal to the token one period earlier.
    repeated_positions: set[int] = set()
    for period in range(1, min(MAX_LOOP_PERIOD_TOKENS, len(text_tokens) // MIN_LOOP_COPIES) + 1):
        repeats = np.pad(text_tokens[period:] == text_tokens[:-period], 1).astype(np.int8)
        run_bounds = np.flatnonzero(np.diff(repeats)).reshape(-1, 2)
        # 2. A run is a loop if it holds enough whole copies and enough tokens; the first copy precedes the run.
        for begin, end in run_bounds.tolist():
            repeated_length = (end - begin) // period * period
            if repeated_length >= (MIN_LOOP_COPIES - 1) * period and repeated_length + period >= MIN_LOOP_TOKENS:
                repeated_positions.update(range(begin + period, begin + period + repeated_length))
    # 3. Timestamps between two removed copies are removed too.
    repeated_indices = {text_indices[position] for position in repeated_positions}
    enclosed_indices = {index + 1 for index in repeated_indices} & {index - 1 for index in repeated_indices}
    return sorted(repeated_indices | {index for index in enclosed_indices if vocabulary.is_timestamp(tokens[index])})


def drop_tokens(decoded: DecodingResult, indices: Sequence[int]) -> DecodingResult:
    """The result without the tokens at these indices, and without their statistics."""
    dropped = set(indices)
    tokens = tuple(token for index, token in enumerate(decoded.tokens) if index not in dropped)
    kept_indices = [index for index in range(len(decoded.token_stats.logprob)) if index not in dropped]
    fields = {name: getattr(decoded.token_stats, name)[kept_indices] for name in TokenStats.__dataclass_fields__}
    return replace(decoded, tokens=tokens, token_stats=TokenStats(**fields))


def _is_near_speech(window: AudioWindow, start: float, end: float) -> bool:
    """Whether speech lies near an interval of the recording; True if speech was not detected."""
    return window.speech is None or not window.speech.is_far_from_speech(start - window.start, end - window.start)
