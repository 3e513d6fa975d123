"""A transcript with its segments, and how a window's tokens become segments."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recognised
from whisperstill.text.languages import UNSPACED
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

SHORTEST_REST = 1.0
"""Seconds: what is left of a window is heard again when it is at least this long."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it was said."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    word: str
    """With the space in front that Whisper gives it."""
    probability: float
    """Mean of its tokens' probabilities."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Text that the network said and that was not believed."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    """Empty where the network was not even asked."""
    reason: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording that was transcribed as one."""

    id: int
    """0, 1, ... within the transcript."""
    seek: int
    """Frames of 10 ms from the beginning of the recording to that of the window."""
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    """With the space in front that Whisper gives it."""
    tokens: tuple[int, ...]
    """Timestamps included, where they were decoded; those count from the window's beginning."""
    avg_logprob: float
    """Mean natural-log probability of the window's tokens."""
    compression_ratio: float
    """UTF-8 bytes of the window's text over its zlib bytes."""
    no_speech_prob: float
    """Of the window."""
    temperature: float = 0.0
    words: tuple[Word, ...] | None = None
    """None where word timestamps were not asked for."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that was heard in a recording."""

    text: str
    """The segments' texts joined (see `joined`)."""
    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code."""
    language_probability: float
    """1 where the language was given, 0 where nothing was heard that could tell."""
    duration: float
    """Seconds of audio."""
    suppressed: tuple[Suppressed, ...] = ()
    """What was said on silence, noise or in a loop, and is not part of the text."""
    broken: str | None = None
    """Why the recording could not be read to its end, where it broke off behind `duration`; None where it was."""
    translated: bool = False
    """Whether the text is in English, whatever was spoken."""

    @property
    def written_in(self) -> str:
        """ISO 639-1 code of the text's language."""
        return "en" if self.translated else self.language


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes, as openai/whisper defines it; 0 for an empty text."""
    content = text.encode("utf-8")
    return len(content) / len(zlib.compress(content))


def joined(segments: Sequence[Segment], language: str) -> str:
    """The text of segments that follow each other, without space at the ends.

    Whisper's texts bring their space; where one forgot it, words of two segments are kept apart.
    """
    text = ""
    for segment in segments:
        apart = text and language not in UNSPACED and not segment.text[:1].isspace()
        text += f" {segment.text}" if apart else segment.text
    return text.strip()


def is_silent(heard: Recognised, options: DecodingOptions) -> bool:
    """Whether a window holds no speech: probably none, and the network is unsure of what it said (openai's rule)."""
    if options.no_speech_threshold is None or heard.decoded.no_speech <= options.no_speech_threshold:
        return False
    return options.logprob_threshold is None or heard.mean_logprob <= options.logprob_threshold


def stopped_at(heard: Recognised, duration: float, vocabulary: Vocabulary) -> float | None:
    """Seconds at which a window decoded with timestamps was left unheard; None where it was heard to its end.

    Two timestamps at the very end open a segment that the network does not finish in this window; openai/whisper then
    goes on from there, and so it does where the tokens ran out. Less than `SHORTEST_REST` is no rest.
    """
    tokens = heard.decoded.tokens
    opens = len(tokens) > 1 and vocabulary.is_timestamp(tokens[-1]) and vocabulary.is_timestamp(tokens[-2])
    if not opens and heard.decoded.ended:
        return None
    times = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
    reached = times[-1] if times else 0.0
    return reached if reached > 0 and duration - reached >= SHORTEST_REST else None


def segments_of(
    heard: Recognised, start: float, duration: float, tokenizer: Tokenizer, timestamps: bool
) -> list[Segment]:
    """The segments of one window that begins at `start` and holds `duration` seconds of audio.

    With timestamps the tokens are cut where two timestamps stand side by side, as in openai/whisper; a last segment
    without an end goes to the end of the window, or is left out where the window is heard again from its beginning
    on (`stopped_at`). Without timestamps the window is one segment. Segments without text or duration are left out.
    """
    vocabulary, ratio = tokenizer.vocabulary, compression_ratio(heard.text)
    tokens = heard.decoded.tokens
    slices = _slices(tokens, vocabulary) if timestamps else [tokens]
    if timestamps and (again := stopped_at(heard, duration, vocabulary)) is not None:
        duration = again
    segments: list[Segment] = []
    for part in slices:
        begin, end = 0.0, duration
        if part and vocabulary.is_timestamp(part[0]):
            begin = vocabulary.timestamp_seconds(part[0])
        if len(part) > 1 and vocabulary.is_timestamp(part[-1]):
            end = vocabulary.timestamp_seconds(part[-1])
        begin, end = min(begin, duration), min(end, duration)  # the padding behind the audio holds nothing
        text = tokenizer.decode(part)
        if text.strip() and end > begin:
            segments.append(
                Segment(
                    id=len(segments),
                    seek=round(start * 100),
                    start=round(start + begin, 3),
                    end=round(start + end, 3),
                    text=text,
                    tokens=tuple(part),
                    avg_logprob=heard.mean_logprob,
                    compression_ratio=ratio,
                    no_speech_prob=heard.decoded.no_speech,
                )
            )
    return segments


def with_words(segments: Sequence[Segment], words: Sequence[Word]) -> list[Segment]:
    """Segments of one window with the window's words.

    The words' texts, one after the other, are the window's text: a segment has those that its own text is made of.
    """
    places = list(accumulate((len(word.word) for word in words), initial=0))
    text, at = "".join(word.word for word in words), 0
    result = []
    for segment in segments:
        found = text.find(segment.text, at)
        begin, at = (found, found + len(segment.text)) if found >= 0 else (at, at)
        mine = tuple(word for word, place in zip(words, places, strict=False) if begin <= place < at)
        result.append(replace(segment, words=mine))
    return result


def _slices(tokens: Sequence[int], vocabulary: Vocabulary) -> list[Sequence[int]]:
    """Cut between every two timestamps that stand side by side."""
    cuts = [
        at
        for at in range(1, len(tokens))
        if vocabulary.is_timestamp(tokens[at]) and vocabulary.is_timestamp(tokens[at - 1])
    ]
    return [tokens[low:high] for low, high in zip([0, *cuts], [*cuts, len(tokens)], strict=True) if high > low]
