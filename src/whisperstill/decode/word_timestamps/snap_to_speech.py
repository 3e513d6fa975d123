"""Snapping words to sound: no word lasts through a pause or ends before its sound does.

Attention places a word within a tenth or two of a second; at a pause the energy of the waveform places it to the frame:
a median of 0.01 s off at known ends of utterances, where attention alone is 0.06 to 0.25 s off (docs/results/words.md).
In loud noise ends are found early; where no pause is found, words are unchanged.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.sound_activity import speech_spans
from whisperstill.decode.output.transcript import Word

MAX_WORD_EXTENSION_S = 0.5
"""Longest extension of a word next to a pause, to where its sound begins or ends."""
MIN_LATER_SPAN_RATIO = 0.3
"""Overlap with a later span, relative to the largest overlap, above which the later span is chosen: without a comma at
the pause, attention lets the word after the pause begin in or before it."""

Span = tuple[float, float]


def snap_words_to_speech(words: Sequence[Word], waveform: Float32[np.ndarray, "samples"]) -> tuple[Word, ...]:
    """The words with times that respect the pauses of the waveform, which starts at time 0."""
    return snap_words_to_spans(words, [(start, start + duration) for start, duration in speech_spans(waveform)])


def snap_words_to_spans(words: Sequence[Word], spans: Sequence[Span]) -> tuple[Word, ...]:
    """The words with times that respect spans `(start, end)` of sound, in order, with pauses between them.

    A word is clipped to one span: the last of those that hold a good part of it (`MIN_LATER_SPAN_RATIO`). A word in no
    span is unchanged. The first word in a span is then extended to its start and the last word to its end, by at most
    `MAX_WORD_EXTENSION_S`. The order is kept, and no new overlaps arise.
    """
    # 1. Clip each word to one span.
    snapped = [_clip_to_span(word, spans) for word in words]
    # 2. Extend the first and the last word of each span.
    for index, word in enumerate(snapped):
        span = next((span for span in spans if span[0] <= word.start and word.end <= span[1]), None)
        if span is None:
            continue
        is_first_in_span = index == 0 or snapped[index - 1].end <= span[0]
        is_last_in_span = index + 1 == len(snapped) or snapped[index + 1].start >= span[1]
        start = span[0] if is_first_in_span and word.start - span[0] <= MAX_WORD_EXTENSION_S else word.start
        end = span[1] if is_last_in_span and span[1] - word.end <= MAX_WORD_EXTENSION_S else word.end
        snapped[index] = replace(word, start=start, end=end)
    return tuple(snapped)


def _clip_to_span(word: Word, spans: Sequence[Span]) -> Word:
    overlaps = [min(word.end, end) - max(word.start, start) for start, end in spans]
    max_overlap = max(overlaps, default=0.0)
    if max_overlap <= 0:
        return word
    min_overlap = MIN_LATER_SPAN_RATIO * max_overlap
    start, end = [span for span, overlap in zip(spans, overlaps, strict=True) if overlap >= min_overlap][-1]
    return replace(word, start=max(word.start, start), end=min(word.end, end))
