"""Sums over judged utterances: how many, how long, how many words, how many errors."""

from dataclasses import dataclass

from whisperstill.records.edits import NO_EDITS, EditCounts
from whisperstill.records.labelled import UtteranceEvidence
from whisperstill.text.normalise import spoken_units


def spoken_words(seen: UtteranceEvidence, language: str) -> int:
    """Words of the reference after normalisation; without reference, words that the teacher heard in this language
    (characters where it writes no spaces)."""
    return len(spoken_units(seen.text, language)) if seen.edits is None else seen.edits.reference


@dataclass(slots=True)
class Tally:
    """Sums over utterances."""

    utterances: int = 0
    seconds: float = 0.0
    words: int = 0
    edits: EditCounts = NO_EDITS

    def add(self, seen: UtteranceEvidence, language: str) -> None:
        """Count one utterance, heard in this language."""
        self.utterances += 1
        self.seconds += seen.utterance.audio.duration
        self.words += spoken_words(seen, language)
        if seen.edits is not None:
            self.edits += seen.edits

    @property
    def wer(self) -> float | None:
        """Per cent; None where no reference has a word."""
        return 100 * self.edits.rate if self.edits.reference else None
