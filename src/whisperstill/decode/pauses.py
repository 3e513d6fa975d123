"""Words held against the sound: none lasts through a pause, none ends before its sound does.

Attention says within a tenth or two of a second where a word is; at a pause the energy of the waveform says it to the
frame: 0.01 s off in the median at known ends of utterances, where attention alone is 0.06 to 0.25 s off
(docs/results/words.md). In loud noise ends are found early, and where no pause is found words stay as they are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.activity import speech_spans
from whisperstill.decode.transcript import Word

REACH = 0.5
"""Seconds by which a word next to a pause may grow to where its sound begins or ends."""
LATER = 0.3
"""Share of what lies in the best stretch from which on a later stretch is chosen: where no comma marks a pause, it is
the word behind the pause that attention lets begin in it, or before it."""

Span = tuple[float, float]


def fit_to_sound(words: Sequence[Word], waveform: Float32[np.ndarray, "samples"]) -> tuple[Word, ...]:
    """The words with times that respect the pauses of a waveform that begins where their times do."""
    return fit_to_spans(words, [(start, start + duration) for start, duration in speech_spans(waveform)])


def fit_to_spans(words: Sequence[Word], spans: Sequence[Span]) -> tuple[Word, ...]:
    """The words with times that respect stretches `(start, end)` of sound, in order, with pauses between them.

    A word keeps of its time what lies in one stretch: the last of those that hold a good part of it (`LATER`). One that
    lies in none stays as it is. The first word in a stretch then grows back to its beginning and the last one on to its
    end, where that is not further than `REACH`. The order of the words stays, and none overlaps another that it did not
    overlap before.
    """
    held = [_within(word, spans) for word in words]
    for at, word in enumerate(held):
        span = next((span for span in spans if span[0] <= word.start and word.end <= span[1]), None)
        if span is None:
            continue
        first = at == 0 or held[at - 1].end <= span[0]
        last = at + 1 == len(held) or held[at + 1].start >= span[1]
        start = span[0] if first and word.start - span[0] <= REACH else word.start
        end = span[1] if last and span[1] - word.end <= REACH else word.end
        held[at] = replace(word, start=start, end=end)
    return tuple(held)


def _within(word: Word, spans: Sequence[Span]) -> Word:
    shared = [min(word.end, end) - max(word.start, start) for start, end in spans]
    most = max(shared, default=0.0)
    if most <= 0:
        return word
    start, end = [span for span, time in zip(spans, shared, strict=True) if time >= LATER * most][-1]
    return replace(word, start=max(word.start, start), end=min(word.end, end))
