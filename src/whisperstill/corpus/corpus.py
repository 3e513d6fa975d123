"""Checks the entries of any corpus layout and turns them into utterances.

A layout only returns what its files state (`Entry`). Here every entry is checked for an audio file that exists and is
audio, for its duration, and for a unique id. Invalid entries are skipped and listed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from whisperstill.audio import probe_duration
from whisperstill.audio.audio_files import has_audio_signature
from whisperstill.corpus.entry import Entry
from whisperstill.errors import AudioError, CorpusError
from whisperstill.records import AudioSpan, Skipped, Utterance
from whisperstill.remote_files import is_pending

MAX_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances in corpus order, and the skipped entries."""

    name: str
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]


def build_corpus(name: str, entries: Iterable[Entry | Skipped], language: str | None = None) -> Corpus:
    """The corpus of all valid entries; `language` applies to entries without one.

    Raises `CorpusError` when no utterance is left.
    """
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    ids: set[str] = set()
    prober = _AudioProber()
    for entry in entries:
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        try:
            if entry.id in ids:
                raise CorpusError(f"duplicate id {entry.id}; the first is used")
            utterance = Utterance(
                id=entry.id,
                corpus=name,
                audio=AudioSpan(str(entry.path), entry.start, prober.measure_duration(entry)),
                text=entry.text,
                language=primary_language_subtag(entry.language or language),
                speaker=entry.speaker,
                session=entry.session,
            )
        except (AudioError, CorpusError) as error:
            skipped.append(Skipped(entry.source, str(error)))
            continue
        ids.add(entry.id)
        utterances.append(utterance)
    if not utterances:
        examples = "; ".join(f"{item.source}: {item.reason}" for item in skipped[:MAX_REASONS_SHOWN])
        summary = f"{len(skipped)} skipped ({examples})" if skipped else "nothing"
        raise CorpusError(f"expected at least one usable utterance in {name}, found {summary}")
    return Corpus(name, tuple(utterances), tuple(skipped))


def primary_language_subtag(language: str | None) -> str | None:
    """`en` for `EN`, `en-US` and `en_GB`; None for an empty string."""
    return (language or "").strip().lower().replace("_", "-").split("-")[0] or None


class _AudioProber:
    """Checks every audio file once, however many segments it has."""

    def __init__(self) -> None:
        self._probe = cache(_probe_duration)
        # a pending file would be downloaded: its manifest is trusted
        self._is_trusted = cache(lambda path: is_pending(path) or has_audio_signature(path))

    def measure_duration(self, entry: Entry) -> float:
        if not (math.isfinite(entry.start) and entry.start >= 0):
            raise CorpusError(f"expected a start of at least 0 s, got {entry.start:g}")
        if entry.duration is not None and not (math.isfinite(entry.duration) and entry.duration > 0):
            raise CorpusError(f"expected a duration greater than 0 s, got {entry.duration:g}")
        if entry.duration is not None and self._is_trusted(entry.path):
            return entry.duration
        seconds = self._probe(entry.path)
        if isinstance(seconds, AudioError):
            raise AudioError(str(seconds))
        if entry.duration is not None:
            return entry.duration
        if entry.start >= seconds:
            raise CorpusError(f"starts at {entry.start:g} s, but its file is {seconds:g} s long")
        return seconds - entry.start


def _probe_duration(path: Path) -> float | AudioError:
    try:
        return probe_duration(path)
    except AudioError as error:
        return error
