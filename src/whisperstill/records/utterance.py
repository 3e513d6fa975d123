"""A stretch of speech, and the 30-second window that the network reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """A stretch of an audio file."""

    path: str
    """File, absolute or relative to the working directory."""
    start: float
    """Seconds from the beginning of the file."""
    duration: float
    """Seconds, greater than 0."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech as a corpus has it."""

    id: str
    """Unique within `corpus`."""
    corpus: str
    """Name of the corpus it comes from (its folder's name)."""
    audio: AudioSpan
    text: str | None
    """Reference transcript in its original form; None when the corpus has none."""
    language: str | None
    """ISO 639-1 code (`en`, `de`); None when unknown."""
    speaker: str | None
    session: str | None
    """Recording, chapter or conversation: utterances of one session follow each other in corpus order."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a corpus that was left out, and why. Counted and listed, never fatal."""

    source: str
    """File, or manifest line (`manifest.jsonl:17`), or utterance id."""
    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """Utterances that follow each other without gap, together at most 30 s."""

    id: str
    """Stable: derived from the utterances, so that any machine gives the same window the same id."""
    utterances: tuple[Utterance, ...]
    packing_variant: int
    """Which way of packing made it: 0 is recording order, others are reshuffled views of the same audio."""

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
