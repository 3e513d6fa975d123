"""A transcript with its segments, and how a window's tokens become segments."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.languages import UNSPACED_LANGUAGES
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

MIN_REMAINDER_S = 1.0
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
class FilteredSegment:
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
    filtered_segments: tuple[FilteredSegment, ...] = ()
    """What was said on silence, noise or in a loop, and is not part of the text."""
    read_error: str | None = None
    """Why the recording could not be read to its end, where it broke off behind `duration`; None where it was."""
    translated: bool = False
    """Whether the text is in English, whatever was spoken."""

    @property
    def text_language(self) -> str:
        """ISO 639-1 code of the text's language."""
        return "en" if self.translated else self.language


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes, as openai/whisper defines it; 0 for an empty text."""
    content = text.encode("utf-8")
    return len(content) / len(zlib.compress(content))


def join_segments(segments: Sequence[Segment], language: str) -> str:
    """The text of segments that follow each other, without space at the ends.

    Whisper's texts bring their space; where one forgot it, words of two segments are kept apart.
    """
    text = ""
    for segment in segments:
        needs_space = text and language not in UNSPACED_LANGUAGES and not segment.text[:1].isspace()
        text += f" {segment.text}" if needs_space else segment.text
    return text.strip()


def is_silent(window_transcript: WindowTranscript, options: DecodingOptions) -> bool:
    """Whether a window holds no speech: probably none, and the network is unsure of what it said (openai's rule)."""
    if options.no_speech_threshold is None or window_transcript.result.no_speech_prob <= options.no_speech_threshold:
        return False
    return options.logprob_threshold is None or window_transcript.avg_logprob <= options.logprob_threshold


def unfinished_at(window_transcript: WindowTranscript, duration: float, vocabulary: Vocabulary) -> float | None:
    """Seconds at which a window decoded with timestamps was left unheard; None where it was heard to its end.

    Two timestamps at the very end open a segment that the network does not finish in this window; openai/whisper then
    goes on from there, and so it does where the tokens ran out. Less than `SHORTEST_REST` is no rest.
    """
    tokens = window_transcript.result.tokens
    opens_segment = len(tokens) > 1 and vocabulary.is_timestamp(tokens[-1]) and vocabulary.is_timestamp(tokens[-2])
    if not opens_segment and window_transcript.result.ended:
        return None
    timestamps = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
    last_timestamp = timestamps[-1] if timestamps else 0.0
    return last_timestamp if last_timestamp > 0 and duration - last_timestamp >= MIN_REMAINDER_S else None


def split_into_segments(
    window_transcript: WindowTranscript, start: float, duration: float, tokenizer: Tokenizer, timestamps: bool
) -> list[Segment]:
    """The segments of one window that begins at `start` and holds `duration` seconds of audio.

    With timestamps the tokens are cut where two timestamps stand side by side, as in openai/whisper; a last segment
    without an end goes to the end of the window, or is left out where the window is heard again from its beginning
    on (`stopped_at`). Without timestamps the window is one segment. Segments without text or duration are left out.
    """
    vocabulary, ratio = tokenizer.vocabulary, compression_ratio(window_transcript.text)
    tokens = window_transcript.result.tokens
    token_slices = _split_at_timestamp_pairs(tokens, vocabulary) if timestamps else [tokens]
    if timestamps and (resume_seconds := unfinished_at(window_transcript, duration, vocabulary)) is not None:
        duration = resume_seconds
    segments: list[Segment] = []
    for token_slice in token_slices:
        begin, end = 0.0, duration
        if token_slice and vocabulary.is_timestamp(token_slice[0]):
            begin = vocabulary.timestamp_seconds(token_slice[0])
        if len(token_slice) > 1 and vocabulary.is_timestamp(token_slice[-1]):
            end = vocabulary.timestamp_seconds(token_slice[-1])
        begin, end = min(begin, duration), min(end, duration)  # the padding behind the audio holds nothing
        text = tokenizer.decode(token_slice)
        if text.strip() and end > begin:
            segments.append(
                Segment(
                    id=len(segments),
                    seek=round(start * 100),
                    start=round(start + begin, 3),
                    end=round(start + end, 3),
                    text=text,
                    tokens=tuple(token_slice),
                    avg_logprob=window_transcript.avg_logprob,
                    compression_ratio=ratio,
                    no_speech_prob=window_transcript.result.no_speech_prob,
                )
            )
    return segments


def attach_words(segments: Sequence[Segment], words: Sequence[Word]) -> list[Segment]:
    """Segments of one window with the window's words.

    The words' texts, one after the other, are the window's text: a segment has those that its own text is made of.
    """
    word_offsets = list(accumulate((len(word.word) for word in words), initial=0))
    text, search_start = "".join(word.word for word in words), 0
    segments_with_words = []
    for segment in segments:
        match_start = text.find(segment.text, search_start)
        begin, search_start = (
            (match_start, match_start + len(segment.text)) if match_start >= 0 else (search_start, search_start)
        )
        segment_words = tuple(
            word for word, offset in zip(words, word_offsets, strict=False) if begin <= offset < search_start
        )
        segments_with_words.append(replace(segment, words=segment_words))
    return segments_with_words


def _split_at_timestamp_pairs(tokens: Sequence[int], vocabulary: Vocabulary) -> list[Sequence[int]]:
    """Cut between every two timestamps that stand side by side."""
    cuts = [
        index
        for index in range(1, len(tokens))
        if vocabulary.is_timestamp(tokens[index]) and vocabulary.is_timestamp(tokens[index - 1])
    ]
    return [tokens[low:high] for low, high in zip([0, *cuts], [*cuts, len(tokens)], strict=True) if high > low]
