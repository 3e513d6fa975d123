"""Recordings longer than a window, cut at their quietest places.

The traps: a reference belongs to the whole recording; which of its words fall into which piece is unknown, so pieces
have none. And a stated length may be wrong: what turns out to fit into one window is kept as it is, with its reference.
"""

from collections.abc import Iterable
from dataclasses import replace

from whisperstill.audio import cut_file
from whisperstill.corpus.packing import fits
from whisperstill.errors import AudioError
from whisperstill.records import AudioSpan, Skipped, Utterance
from whisperstill.units import WINDOW_SECONDS


def split_long(
    utterances: Iterable[Utterance], max_seconds: float = WINDOW_SECONDS
) -> tuple[tuple[Utterance, ...], tuple[Skipped, ...]]:
    """The utterances, with every one longer than `max_seconds` replaced by pieces `<id>#0003`, in order; and notes.

    Pieces cover all of it, have no text, and belong to the session that the recording was of, or is. A note names each
    recording whose reference was dropped, or that could not be decoded and was left out.
    """
    split_utterances: list[Utterance] = []
    notes: list[Skipped] = []
    for utterance in utterances:
        if fits(utterance, max_seconds):
            split_utterances.append(utterance)
            continue
        audio = utterance.audio
        try:
            spans = cut_file(audio.path, max_seconds, audio.start, audio.duration)
        except AudioError as error:
            notes.append(Skipped(utterance.id, str(error)))
            continue
        if len(spans) == 1:
            split_utterances.append(replace(utterance, audio=AudioSpan(audio.path, *spans[0])))
            continue
        if utterance.text is not None:
            reason = f"reference dropped: {audio.duration:.1f} s are longer than a window of {max_seconds:g} s"
            notes.append(Skipped(utterance.id, reason))
        split_utterances += [
            replace(
                utterance,
                id=f"{utterance.id}#{index:04d}",
                audio=AudioSpan(audio.path, *span),
                text=None,
                session=utterance.session or utterance.id,
            )
            for index, span in enumerate(spans)
        ]
    return tuple(split_utterances), tuple(notes)
