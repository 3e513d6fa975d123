"""Utterances, and the 30-second windows they are packed into."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """Time span of an audio file."""

    path: str
    """File, absolute or relative to the working directory."""
    start: float
    """Seconds from the beginning of the file."""
    duration: float
    """Seconds, greater than 0."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus."""

    id: str
    """Unique within `corpus`."""
    corpus: str
    """Name of the corpus."""
    audio: AudioSpan
    text: str | None
    """Reference transcript, not normalized; None when the corpus has none."""
    language: str | None
    """ISO 639-1 code (`en`, `de`); None when unknown."""
    speaker: str | None
    session: str | None
    """Recording, chapter or conversation; its utterances are in recording order in the corpus."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A corpus entry that was skipped, and the reason."""

    source: str
    """File, or manifest line (`manifest.jsonl:17`), or utterance id."""
    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """Utterances joined without gaps, together at most 30 s: one input of the encoder."""

    id: str
    """Hash of the utterances (see `corpus.packing.window_id`), the same on any machine."""
    utterances: tuple[Utterance, ...]
    packing_variant: int
    """Packing variant: 0 is recording order, the others reshuffle the same audio."""

    @property
    def duration(self) -> float:
        """Seconds of audio."""
        return sum(utterance.audio.duration for utterance in self.utterances)

    @property
    def language(self) -> str | None:
        """Language of all its utterances."""
        return self.utterances[0].language

    @property
    def has_text(self) -> bool:
        """Whether every utterance has a reference."""
        return all(utterance.text is not None for utterance in self.utterances)
