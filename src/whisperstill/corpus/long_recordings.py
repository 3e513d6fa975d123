"""Splits recordings that are longer than a window, at quiet points.

A piece has no reference, because it is unknown which words of the recording's reference belong to it. If the stated
duration is wrong and the recording fits into a window, it stays one utterance and keeps its reference.
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
    """The utterances, with each one longer than `max_seconds` replaced by pieces `<id>#0003`, and notes.

    Pieces cover the whole recording, have no text, and share a session: the recording's, or else its id. Notes name
    recordings whose reference was dropped, and recordings that cannot be decoded and are left out.
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
            reason = f"reference dropped: the recording has {audio.duration:.1f} s, a window at most {max_seconds:g} s"
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
