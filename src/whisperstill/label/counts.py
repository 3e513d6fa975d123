"""Sums over judged utterances: how many, how long, how many words, how many errors."""

from dataclasses import dataclass

from whisperstill.records.edit_counts import NO_EDITS, EditCounts
from whisperstill.records.pseudo_label import LabelQuality
from whisperstill.text.normalizers import split_into_units


def count_words(quality: LabelQuality, language: str) -> int:
    """Words of the reference after normalisation; without reference, words that the teacher heard in this language
    (characters where it writes no spaces)."""
    return len(split_into_units(quality.text, language)) if quality.edits is None else quality.edits.reference_length


@dataclass(slots=True)
class LabelCounts:
    """Sums over utterances."""

    utterances: int = 0
    seconds: float = 0.0
    words: int = 0
    edits: EditCounts = NO_EDITS

    def add(self, quality: LabelQuality, language: str) -> None:
        """Count one utterance, heard in this language."""
        self.utterances += 1
        self.seconds += quality.utterance.audio.duration
        self.words += count_words(quality, language)
        if quality.edits is not None:
            self.edits += quality.edits

    @property
    def wer(self) -> float | None:
        """Per cent; None where no reference has a word."""
        return 100 * self.edits.error_rate if self.edits.reference_length else None
