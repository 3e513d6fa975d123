"""What was read from one source, and the one place where it is checked.

A layout only says what its files state (`Entry`); whether there is such a file, whether it is audio, how long it is
and whether an id stands twice is asked here, the same for every layout. What is wrong is left out and listed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
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
    """Utterances in corpus order, and what was left out."""

    name: str
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]


def build_corpus(name: str, entries: Iterable[Entry | Skipped], language: str | None = None) -> Corpus:
    """The corpus made of all entries that hold; `language` is taken where an entry has none.

    Raises `CorpusError` when no usable utterance is left.
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
                raise CorpusError(f"id {entry.id} stands twice; the first is kept")
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
        summary = f"{len(skipped)} left out ({examples})" if skipped else "nothing"
        raise CorpusError(f"expected at least one usable utterance in {name}, found {summary}")
    return Corpus(name, tuple(utterances), tuple(skipped))


def primary_language_subtag(language: str | None) -> str | None:
    """`en` for `EN`, `en-US` and `en_GB`; None for an empty string."""
    return (language or "").strip().lower().replace("_", "-").split("-")[0] or None


class _AudioProber:
    """Looks at every file once, however many segments lie in it."""

    def __init__(self) -> None:
        self._errors: dict[Path, str | None] = {}
        self._durations: dict[Path, float] = {}

    def measure_duration(self, entry: Entry) -> float:
        if not (math.isfinite(entry.start) and entry.start >= 0):
            raise CorpusError(f"expected a start of at least 0 s, got {entry.start:g}")
        if entry.duration is not None and not (math.isfinite(entry.duration) and entry.duration > 0):
            raise CorpusError(f"expected a duration greater than 0 s, got {entry.duration:g}")
        self._check_readable(entry.path)
        if entry.duration is not None:
            return entry.duration
        if entry.path not in self._durations:
            self._durations[entry.path] = probe_duration(entry.path)
        remaining = self._durations[entry.path] - entry.start
        if remaining <= 0:
            raise CorpusError(f"starts at {entry.start:g} s, but its file is {self._durations[entry.path]:g} s long")
        return remaining

    def _check_readable(self, path: Path) -> None:
        if path not in self._errors:
            self._errors[path] = None
            try:
                if is_pending(path):  # a look would fetch it: what its manifest states is trusted
                    return
                if not has_audio_signature(path):
                    self._durations[path] = probe_duration(path)
            except AudioError as error:
                self._errors[path] = str(error)
        if message := self._errors[path]:
            raise AudioError(message)
