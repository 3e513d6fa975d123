"""From tokens or merged words to segments, and where decoding has to resume after a window.

The rules for the tokens of a window are openai/whisper's: two adjacent timestamps separate segments, and two timestamps
at the very end open a segment that is not finished in this window. Segments of merged words end at sentence ends,
pauses, or a maximum length.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, compress, pairwise

from whisperstill.decode.longform.window import MAX_DISTANCE_FROM_SPEECH_S, WindowResult
from whisperstill.decode.output.transcript import Segment, Word, compression_ratio
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

MIN_REMAINDER_S = 1.0
"""Shortest rest of a window that is decoded again."""
SEGMENT_PAUSE_S = 1.0
"""Pause that ends a segment."""
SOFT_MAX_SEGMENT_S = 12.0
"""Length after which a segment ends at the next comma or short pause."""
MAX_SEGMENT_S = 24.0
"""Length after which a segment ends at the next word."""
SHORT_PAUSE_S = 0.3
SENTENCE_ENDINGS = frozenset(".?!。？！…")
CLAUSE_ENDINGS = frozenset(",;:،、，；：—")
CHUNKS_KEPT = 4
"""Last chunks whose statistics a segment may take."""


def split_into_segments(
    window_transcript: WindowTranscript, start: float, duration: float, tokenizer: Tokenizer, timestamps: bool
) -> list[Segment]:
    """Segments of a window that begins at `start` and holds `duration` seconds of audio.

    With timestamps, tokens are cut between adjacent timestamps; a last segment without an end lasts to the end of the
    window, or is left out if it is decoded again (`unfinished_at`). Without timestamps the window is one segment.
    Segments without text or duration are left out.
    """
    vocabulary, tokens = tokenizer.vocabulary, window_transcript.result.tokens
    cuts = timestamp_pair_indices(tokens, vocabulary) if timestamps else []
    if timestamps and (resume_seconds := unfinished_at(window_transcript, duration, vocabulary)) is not None:
        duration = resume_seconds
    segments: list[Segment] = []
    for first, last in pairwise([0, *cuts, len(tokens)]):
        token_slice = tokens[first:last]
        begin, end = 0.0, duration
        if token_slice and vocabulary.is_timestamp(token_slice[0]):
            begin = vocabulary.timestamp_seconds(token_slice[0])
        if len(token_slice) > 1 and vocabulary.is_timestamp(token_slice[-1]):
            end = vocabulary.timestamp_seconds(token_slice[-1])
        begin, end = min(begin, duration), min(end, duration)  # the padding after the audio holds nothing
        text = tokenizer.decode(token_slice)
        if text.strip() and end > begin:
            begin, end = round(start + begin, 3), round(start + end, 3)
            segments.append(_make_segment(window_transcript, start, begin, end, text, token_slice))
    return segments


def attach_words(segments: Sequence[Segment], words: Sequence[Word]) -> list[Segment]:
    """The segments of a window with the window's words; the words' texts joined are the text of the window."""
    word_offsets = list(accumulate((len(word.word) for word in words), initial=0))
    text, search_start = "".join(word.word for word in words), 0
    segments_with_words = []
    for segment in segments:
        match_start = text.find(segment.text, search_start)
        begin = max(match_start, search_start)
        search_start = begin + (len(segment.text) if match_start >= 0 else 0)
        matches = (begin <= offset < search_start for offset in word_offsets)
        segments_with_words.append(replace(segment, words=tuple(compress(words, matches))))
    return segments_with_words


def unfinished_at(window_transcript: WindowTranscript, duration: float, vocabulary: Vocabulary) -> float | None:
    """Seconds at which the transcript of a window breaks off; None if it reaches the end of the window.

    It breaks off at the last timestamp where a segment is opened but not finished, or where tokens ran out. A rest
    shorter than `MIN_REMAINDER_S` is ignored.
    """
    tokens = window_transcript.result.tokens
    opens_segment = len(tokens) > 1 and vocabulary.is_timestamp(tokens[-1]) and vocabulary.is_timestamp(tokens[-2])
    if not opens_segment and window_transcript.result.ended:
        return None
    last_timestamp = _last_timestamp_seconds(tokens, vocabulary)
    return last_timestamp if last_timestamp > 0 and duration - last_timestamp >= MIN_REMAINDER_S else None


def resume_at(result: WindowResult, vocabulary: Vocabulary) -> float | None:
    """Seconds at which a window decoded with timestamps has to be decoded again; None if it was transcribed to its end.

    That is where the transcript breaks off (`unfinished_at`), or ends although speech goes on.
    """
    window, tokens = result.window, result.window_transcript.result.tokens
    resume_seconds = unfinished_at(result.window_transcript, window.duration, vocabulary)
    # A last segment without an end lasts to the end of the window.
    if resume_seconds is not None or window.speech is None or (tokens and not vocabulary.is_timestamp(tokens[-1])):
        return resume_seconds
    last_timestamp = _last_timestamp_seconds(tokens, vocabulary)
    speech_start = last_timestamp + MAX_DISTANCE_FROM_SPEECH_S
    if (
        last_timestamp < MIN_REMAINDER_S
        or window.duration - last_timestamp < MAX_DISTANCE_FROM_SPEECH_S + MIN_REMAINDER_S
        or window.speech.speech_seconds(speech_start) < MIN_REMAINDER_S
    ):
        return None
    return last_timestamp


def _last_timestamp_seconds(tokens: Sequence[int], vocabulary: Vocabulary) -> float:
    """The last timestamp; 0 if there is none."""
    timestamps = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
    return timestamps[-1] if timestamps else 0.0


def timestamp_pair_indices(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Indices of the timestamps that directly follow another timestamp."""
    is_timestamp = [vocabulary.is_timestamp(token) for token in tokens]
    return [index for index in range(1, len(tokens)) if is_timestamp[index] and is_timestamp[index - 1]]


@dataclass(frozen=True, slots=True)
class DecodedChunk:
    """A chunk's words and decoding result, without its audio and encoder states."""

    start: float
    end: float
    words: list[Word]
    window_transcript: WindowTranscript
    temperature: float


class WordSegmenter:
    """Splits the final words of a recording into segments."""

    def __init__(self, tokenizer: Tokenizer, word_timestamps: bool) -> None:
        self._tokenizer, self._word_timestamps = tokenizer, word_timestamps
        self._words: list[Word] = []
        """Words that are not yet part of a segment."""
        self.chunks: deque[DecodedChunk] = deque(maxlen=CHUNKS_KEPT)
        """Last chunks, the source of segment statistics (`avg_logprob`, `temperature`, ...)."""

    def split(self, words: Sequence[Word], *, flush: bool = False) -> list[Segment]:
        """Append final words and return the segments they complete; with `flush` all words that are left."""
        self._words += words
        segments = []
        while (count := first_segment_length(self._words, flush)) > 0:
            segments.append(self._make_segment(self._words[:count]))
            del self._words[:count]
        return segments

    def _make_segment(self, words: list[Word]) -> Segment:
        start, end = words[0].start, words[-1].end
        chunk = min(self.chunks, key=lambda candidate: abs((candidate.start + candidate.end) / 2 - (start + end) / 2))
        text = "".join(word.word for word in words)
        tokens = tuple(self._tokenizer.encode(text))
        segment = _make_segment(chunk.window_transcript, chunk.start, start, end, text, tokens)
        timed_words = tuple(words) if self._word_timestamps else None
        return replace(segment, temperature=chunk.temperature, words=timed_words)


def _make_segment(
    window_transcript: WindowTranscript, seek: float, start: float, end: float, text: str, tokens: tuple[int, ...]
) -> Segment:
    """An unnumbered segment, with the statistics of the window that begins at `seek` seconds."""
    ratio, no_speech_prob = compression_ratio(window_transcript.text), window_transcript.result.no_speech_prob
    return Segment(0, round(seek * 100), start, end, text, tokens, window_transcript.avg_logprob, ratio, no_speech_prob)


def first_segment_length(words: Sequence[Word], flush: bool) -> int:
    """Number of words in the first segment; 0 if later words may still belong to it (not with `flush`)."""
    for index in range(1, len(words)):
        previous, pause = words[index - 1], words[index].start - words[index - 1].end
        segment_seconds, last_character = previous.end - words[0].start, previous.word.rstrip("\"'”’»)")[-1:]
        if last_character in SENTENCE_ENDINGS or pause >= SEGMENT_PAUSE_S or segment_seconds >= MAX_SEGMENT_S:
            return index
        if segment_seconds >= SOFT_MAX_SEGMENT_S and (last_character in CLAUSE_ENDINGS or pause >= SHORT_PAUSE_S):
            return index
    return len(words) if flush else 0
