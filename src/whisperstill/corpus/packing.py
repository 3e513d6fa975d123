"""Packs utterances of one speaker, in recording order, into windows of at most 30 s; longer recordings are split first.

A window never mixes speakers, languages, corpora, or utterances with and without a reference. An utterance without a
speaker is packed with its session; without either it is a window of its own.

Packing variant 0 has the order of the corpus. Variant k > 0 reshuffles the utterances of each group by (seed, k,
group), so that they get other neighbours and other positions. The shuffle sorts by SHA-256, so it is the same on any
machine and with any library version. With `min_seconds` the target length of each window of such a variant is random
too, so that a student is also trained on short clips.

Long recordings are split at quiet points. A piece has no reference, because it is unknown which words of the reference
belong to it. If the stated duration is wrong and the recording fits into a window, it stays one utterance and keeps its
reference.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from whisperstill.audio.sound_activity import cut_file
from whisperstill.errors import AudioError, CorpusError, SettingsError
from whisperstill.records import AudioSpan, Skipped, Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SECONDS

WINDOW_ID_LENGTH = 16
MICROSECONDS_PER_SECOND = 1_000_000


def pack(
    utterances: Iterable[Utterance],
    *,
    max_seconds: float = WINDOW_SECONDS,
    min_seconds: float | None = None,
    packing_variant: int = 0,
    seed: int = 0,
) -> list[Window]:
    """Windows that contain every utterance exactly once; each is filled in order while the next utterance fits.

    A window of exactly `max_seconds` is allowed. With `min_seconds`, each window of a variant other than 0 is filled up
    to a random length between the two; a longer utterance is a window of its own. Raises `CorpusError` that names an
    utterance longer than `max_seconds`, `SettingsError` for invalid lengths.
    """
    if not 0 < max_seconds <= WINDOW_SECONDS:
        raise SettingsError(f"max_seconds must be more than 0 and at most {WINDOW_SECONDS}, got {max_seconds:g}")
    if min_seconds is not None and not 0 <= min_seconds <= max_seconds:
        raise SettingsError(f"min_seconds must be 0 to max_seconds ({max_seconds:g}), got {min_seconds:g}")
    # 1. Group by corpus, language, reference and speaker.
    groups: dict[tuple[object, ...], list[Utterance]] = {}
    for index, utterance in enumerate(utterances):
        if not fits(utterance, max_seconds):
            raise CorpusError(
                f"expected utterances of at most {max_seconds:g} s, got {utterance.id} of corpus {utterance.corpus} "
                f"with {utterance.audio.duration:.3f} s; cut it with split_long first"
            )
        groups.setdefault(_group_key(utterance, index), []).append(utterance)
    # 2. Fill windows group by group, in recording or reshuffled order.
    windows: list[Window] = []
    for group_key, members in groups.items():
        variant_min_seconds = None
        if packing_variant:
            members = sorted(
                members,
                key=lambda member: _json_sha256([seed, packing_variant, list(group_key), _utterance_key(member)]),
            )
            variant_min_seconds = min_seconds
        windows += _fill_windows(members, max_seconds, variant_min_seconds, packing_variant, seed)
    return windows


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


def fits(utterance: Utterance, max_seconds: float = WINDOW_SECONDS) -> bool:
    """Whether an utterance fits into a window of `max_seconds`."""
    lengths, limits = _exact_length(utterance.audio.duration), _exact_length(max_seconds)
    return lengths[0] <= limits[0] and lengths[1] <= limits[1]


def window_id(packing_variant: int, utterances: Iterable[Utterance]) -> str:
    """Window id: a hash of the packing variant and of corpus, id and time span of each utterance, not of file paths."""
    return _json_sha256([packing_variant, [_utterance_key(utterance) for utterance in utterances]])[:WINDOW_ID_LENGTH]


def _fill_windows(
    members: list[Utterance], max_seconds: float, min_seconds: float | None, packing_variant: int, seed: int
) -> list[Window]:
    limits = _exact_length(max_seconds)
    bins: list[list[Utterance]] = []
    used = limits
    for member in members:
        sizes = _exact_length(member.audio.duration)
        total = (used[0] + sizes[0], used[1] + sizes[1])
        if bins and total[0] <= limits[0] and total[1] <= limits[1]:
            bins[-1].append(member)
            used = total
        else:
            bins.append([member])
            used = sizes
            if min_seconds is not None:
                fraction = int(_json_sha256([seed, packing_variant, "length", _utterance_key(member)])[:8], 16) / 16**8
                limits = _exact_length(min_seconds + fraction * (max_seconds - min_seconds))
    return [Window(window_id(packing_variant, packed), tuple(packed), packing_variant) for packed in bins]


def _exact_length(seconds: float) -> tuple[int, int]:
    """Microseconds and samples, as integers whose sums are exact. Samples, because a window holds a fixed number of
    them and each utterance is rounded by itself; microseconds, so that rounding down does not admit 30.0001 s."""
    return round(seconds * MICROSECONDS_PER_SECOND), round(seconds * SAMPLE_RATE)


def _group_key(utterance: Utterance, index: int) -> tuple[object, ...]:
    if utterance.speaker is not None:
        owner: tuple[object, ...] = ("speaker", utterance.speaker)
    elif utterance.session is not None:
        owner = ("session", utterance.session)
    else:
        owner = ("alone", index)
    return (utterance.corpus, utterance.language, utterance.text is not None, *owner)


def _utterance_key(utterance: Utterance) -> list[object]:
    return [utterance.corpus, utterance.id, utterance.audio.start, utterance.audio.duration]


def _json_sha256(value: object) -> str:
    return sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
