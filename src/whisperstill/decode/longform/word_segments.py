"""Segments made of merged words: they end at sentence ends, pauses, or a maximum length."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from whisperstill.decode.output.transcript import Segment, Word, compression_ratio
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer

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


@dataclass(frozen=True, slots=True)
class DecodedChunk:
    """A chunk's words and decoding result, without its audio and encoder states."""

    start: float
    end: float
    words: list[Word]
    window_transcript: WindowTranscript
    temperature: float

    @property
    def middle(self) -> float:
        """Seconds of the recording."""
        return (self.start + self.end) / 2


class WordSegmenter:
    """Splits the final words of a recording into segments."""

    def __init__(self, tokenizer: Tokenizer, word_timestamps: bool) -> None:
        self._tokenizer, self._word_timestamps = tokenizer, word_timestamps
        self._words: list[Word] = []
        """Words that are not yet part of a segment."""
        self._chunks: deque[DecodedChunk] = deque(maxlen=CHUNKS_KEPT)

    @property
    def last_chunk(self) -> DecodedChunk | None:
        """The chunk added last."""
        return self._chunks[-1] if self._chunks else None

    def add_chunk(self, chunk: DecodedChunk) -> None:
        """Make a chunk available as the source of segment statistics (`avg_logprob`, `temperature`, ...)."""
        self._chunks.append(chunk)

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
        chunk = min(self._chunks, key=lambda candidate: abs(candidate.middle - (start + end) / 2))
        text, window_transcript = "".join(word.word for word in words), chunk.window_transcript
        return Segment(
            id=0,
            seek=round(chunk.start * 100),
            start=start,
            end=end,
            text=text,
            tokens=tuple(self._tokenizer.encode(text)),
            avg_logprob=window_transcript.avg_logprob,
            compression_ratio=compression_ratio(window_transcript.text),
            no_speech_prob=window_transcript.result.no_speech_prob,
            temperature=chunk.temperature,
            words=tuple(words) if self._word_timestamps else None,
        )


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
