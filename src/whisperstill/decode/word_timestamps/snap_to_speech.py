"""Words held against the sound: none lasts through a pause, none ends before its sound does.

Attention says within a tenth or two of a second where a word is; at a pause the energy of the waveform says it to the
frame: 0.01 s off in the median at known ends of utterances, where attention alone is 0.06 to 0.25 s off
(docs/results/words.md). In loud noise ends are found early, and where no pause is found words stay as they are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.sound_activity import speech_spans
from whisperstill.decode.output.transcript import Word

MAX_WORD_EXTENSION_S = 0.5
"""Seconds by which a word next to a pause may grow to where its sound begins or ends."""
MIN_LATER_SPAN_RATIO = 0.3
"""Share of what lies in the best stretch from which on a later stretch is chosen: where no comma marks a pause, it is
the word behind the pause that attention lets begin in it, or before it."""

Span = tuple[float, float]


def snap_words_to_speech(words: Sequence[Word], waveform: Float32[np.ndarray, "samples"]) -> tuple[Word, ...]:
    """The words with times that respect the pauses of a waveform that begins where their times do."""
    return snap_words_to_spans(words, [(start, start + duration) for start, duration in speech_spans(waveform)])


def snap_words_to_spans(words: Sequence[Word], spans: Sequence[Span]) -> tuple[Word, ...]:
    """The words with times that respect stretches `(start, end)` of sound, in order, with pauses between them.

    A word keeps of its time what lies in one stretch: the last of those that hold a good part of it (`LATER`). One that
    lies in none stays as it is. The first word in a stretch then grows back to its beginning and the last one on to its
    end, where that is not further than `REACH`. The order of the words stays, and none overlaps another that it did not
    overlap before.
    """
    snapped = [_clip_to_span(word, spans) for word in words]
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
    start, end = [
        span for span, overlap in zip(spans, overlaps, strict=True) if overlap >= MIN_LATER_SPAN_RATIO * max_overlap
    ][-1]
    return replace(word, start=max(word.start, start), end=min(word.end, end))
