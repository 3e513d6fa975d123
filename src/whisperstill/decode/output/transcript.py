"""Transcript of a recording: segments, words, and text removed by the hallucination filter."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from whisperstill.text.languages import UNSPACED_LANGUAGES


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    word: str
    """With the leading space that Whisper's tokens have."""
    probability: float
    """Mean probability of its tokens."""


@dataclass(frozen=True, slots=True)
class FilteredSegment:
    """Text removed by the hallucination filter."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    text: str
    """Empty if the audio was not decoded."""
    reason: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a transcript."""

    id: int
    """0, 1, ... within the transcript."""
    seek: int
    """Start of the window, in frames of 10 ms from the start of the recording."""
    start: float
    """Seconds from the start of the recording."""
    end: float
    text: str
    """With the leading space that Whisper's tokens have."""
    tokens: tuple[int, ...]
    """With timestamp tokens if they were decoded; those count from the start of the window."""
    avg_logprob: float
    """Mean natural-log probability of the window's tokens."""
    compression_ratio: float
    """UTF-8 bytes of the window's text over its zlib-compressed bytes."""
    no_speech_prob: float
    """Of the window."""
    temperature: float = 0.0
    words: tuple[Word, ...] | None = None
    """None without `word_timestamps`."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Transcript of a recording."""

    text: str
    """Texts of the segments, joined by `join_segments`."""
    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code."""
    language_probability: float
    """1 if the language was given, 0 if no window had speech to detect it in."""
    duration: float
    """Seconds of audio."""
    filtered_segments: tuple[FilteredSegment, ...] = ()
    """Text removed by the hallucination filter; not part of `text`."""
    read_error: str | None = None
    """Error that ended reading after `duration` seconds; None if the recording was read to its end."""
    translated: bool = False
    """Whether the text is an English translation."""

    @property
    def text_language(self) -> str:
        """ISO 639-1 code of the text's language."""
        return "en" if self.translated else self.language


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes, as openai/whisper defines it; 0 for an empty text."""
    content = text.encode("utf-8")
    return len(content) / len(zlib.compress(content))


def join_segments(segments: Sequence[Segment], language: str) -> str:
    """Text of consecutive segments, stripped; a missing space between two segments is inserted."""
    text = ""
    for segment in segments:
        needs_space = text and language not in UNSPACED_LANGUAGES and not segment.text[:1].isspace()
        text += f" {segment.text}" if needs_space else segment.text
    return text.strip()
