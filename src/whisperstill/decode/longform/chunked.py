"""`chunked`: chunks that overlap, all decoded at the same time, joined by their words.

Chunks of c seconds begin every 2c/3 (the paper's stride of c/6 on each side), so that what is near an edge of one is
far from an edge of its neighbour. Their words are aligned by text and time (`decode.seams`). Where two neighbours do
not agree on a single word, a window centred on the seam is heard as well and joined with each of them. Where the
network ends a chunk though somebody goes on speaking (it does so in one chunk of ten), what is left is heard as a chunk
of its own; likewise what lies behind a hole, where somebody speaks for seconds and no word was heard.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import groupby, pairwise

from whisperstill.audio.reader import AudioReader
from whisperstill.decode.longform.chunk_merge import MergePoint, find_merge_point
from whisperstill.decode.longform.chunk_merger import ChunkMerger
from whisperstill.decode.longform.strategy import LongFormContext, LongFormStrategy
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, WindowResult
from whisperstill.decode.output.transcript import Segment, Word, compression_ratio
from whisperstill.decode.whisper_model import WindowTranscript

SEGMENT_PAUSE_S = 1.0
"""Seconds of silence that end a segment."""
SOFT_MAX_SEGMENT_S = 12.0
"""Seconds after which a segment ends at the next comma or short pause."""
MAX_SEGMENT_S = 24.0
"""Seconds after which it ends anyway."""
SHORT_PAUSE_S = 0.3
MIN_UNTRANSCRIBED_SPEECH_S = 2.5
"""Seconds of voice between the first second of a word and the next word that were not heard; slow speech has one."""
ASSUMED_WORD_S = 1.0
"""Seconds that a word lasts; before a hole its end is put anywhere."""
REWIND_BEFORE_WORD_S = 0.1
"""Seconds in front of a word from which it is heard again."""
MAX_LOOKAHEAD_CHUNKS = 64
"""Chunks beyond those joined that may be asked for: audio is held as long as a seam may be in it."""
SENTENCE_ENDINGS = frozenset(".?!。？！…")
CLAUSE_ENDINGS = frozenset(",;:،、，；：—")


@dataclass(frozen=True, slots=True)
class _DecodedChunk:
    """A chunk that was heard: its words, and what the network said of itself."""

    start: float
    end: float
    words: list[Word]
    window_transcript: WindowTranscript
    temperature: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(slots=True)
class _PendingChunk:
    """A stretch of the recording: a window that is being heard, then the chunk that it became."""

    window: AudioWindow | None
    next_chunk_start: float
    """Seconds at which the next chunk begins that is cut in any case."""
    chunk: _DecodedChunk | None = None


class Chunked(LongFormStrategy):
    """Overlapping chunks of `length` seconds."""

    def __init__(
        self, context: LongFormContext, detected_language: DetectedLanguage, reader: AudioReader, chunk_seconds: float
    ) -> None:
        super().__init__(context, detected_language, reader)
        self._chunk_seconds = chunk_seconds
        self._num_cut = 0
        """Chunks that were asked for."""
        self._pending_chunks: deque[_PendingChunk] = deque()
        """What is not yet joined, in order of time."""
        self._extra_windows: deque[AudioWindow] = deque()
        self._merge_window: AudioWindow | None = None
        """The window centred on a seam that is being heard."""
        self._all_cut = False
        self._merger: ChunkMerger | None = None
        self._merged_chunks: deque[_DecodedChunk] = deque(maxlen=4)
        self._final_words: list[Word] = []
        """Words that are not yet part of a segment."""

    @property
    def merge_points(self) -> list[MergePoint]:
        """Where chunks were joined."""
        return self._merger.merge_points if self._merger else []

    def next_window(self) -> AudioWindow | None:
        """See `Plan`."""
        if self._extra_windows:
            return self._extra_windows.popleft()
        if self._all_cut or len(self._pending_chunks) > MAX_LOOKAHEAD_CHUNKS:
            return None
        start = self._num_cut * self._step_seconds
        waveform = self.reader.read(start, self._chunk_seconds)
        self._all_cut = not self.reader.has_audio_after(start + self._chunk_seconds)
        prefix = () if self._num_cut else self.context.prefix
        window = self.make_window(start, waveform, prefix=prefix)
        self._num_cut += 1
        self._pending_chunks.append(_PendingChunk(window, math.inf if self._all_cut else start + self._step_seconds))
        return window

    def on_result(self, result: WindowResult) -> None:
        """See `Plan`."""
        window, accepted = result.window, self.accept(result)
        if self._merger is None:
            self._merger = ChunkMerger("en")
        self._merger.language = self.context.options.output_language(
            self.detected_language.code or "en"
        )  # unknown while all is quiet
        if window is self._merge_window:
            words = self._chunk_words(result, None) if accepted else []
            self._on_merge_window(self._make_chunk(result, words, None), self._merger)
        else:
            position = next(index for index, candidate in enumerate(self._pending_chunks) if candidate.window is window)
            pending, resume_seconds = self._pending_chunks[position], self.resume_at(result) if accepted else None
            words = self._chunk_words(result, resume_seconds) if accepted else []
            if (
                gap_index := _find_untranscribed_gap(window, words)
            ) is not None:  # it is heard once more: its end is anywhere
                rewind_start = max(
                    words[gap_index].start - REWIND_BEFORE_WORD_S, words[gap_index - 1].end if gap_index else 0.0
                )
                resume_seconds, words = rewind_start - window.start, words[:gap_index]
            if (
                resume_seconds is not None and window.start + resume_seconds < pending.next_chunk_start
            ):  # else the next chunk holds what is left
                remainder = self.make_window(
                    window.start + resume_seconds, self.reader.read(window.start + resume_seconds, self._chunk_seconds)
                )
                self._pending_chunks.insert(position + 1, _PendingChunk(remainder, pending.next_chunk_start))
                self._extra_windows.append(remainder)
            pending.chunk, pending.window = self._make_chunk(result, words, resume_seconds), None
        self._merge_ready_chunks(self._merger)

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._all_cut and not self._pending_chunks

    @property
    def _step_seconds(self) -> float:
        return self._chunk_seconds * 2 / 3

    def _chunk_words(self, result: WindowResult, resume_seconds: float | None) -> list[Word]:
        return self._drop_words_far_from_speech(result.window, self.words_from(result, resume_seconds))

    @staticmethod
    def _make_chunk(result: WindowResult, words: list[Word], resume_seconds: float | None) -> _DecodedChunk:
        window = result.window
        end = window.start + (window.duration if resume_seconds is None else resume_seconds)
        return _DecodedChunk(window.start, end, words, result.window_transcript, result.temperature)

    def _on_merge_window(self, center: _DecodedChunk, merger: ChunkMerger) -> None:
        """Join the window centred on a seam, if it agrees with both sides, and the chunk behind the seam."""
        next_chunk = self._pending_chunks.popleft().chunk
        assert next_chunk is not None
        matches_next = find_merge_point(center.words, next_chunk.words, next_chunk.start, center.end, merger.language)
        if matches_next and merger.can_merge(center.words, center.start):
            self._add_chunk(center, merger)
        self._add_chunk(next_chunk, merger)
        self._merge_window = None

    def _merge_ready_chunks(self, merger: ChunkMerger) -> None:
        """Join what has come in order."""
        while (
            self._merge_window is None and self._pending_chunks and (chunk := self._pending_chunks[0].chunk) is not None
        ):
            previous = self._merged_chunks[-1] if self._merged_chunks else None
            if previous is not None and chunk.end <= previous.end:  # given up so early that the one before heard it all
                self._pending_chunks.popleft()
                continue
            if previous is not None and not merger.can_merge(chunk.words, chunk.start):
                middle = (chunk.start + previous.end) / 2
                start = max(0.0, middle - self._chunk_seconds / 2)
                self._merge_window = self.make_window(start, self.reader.read(start, self._chunk_seconds))
                self._extra_windows.append(self._merge_window)
                return
            self._pending_chunks.popleft()
            self._add_chunk(chunk, merger)
        if self._merged_chunks:
            self.reader.discard_before(self._merged_chunks[-1].start - self._chunk_seconds)
        if self.finished:
            self._final_words += merger.finish()
            self._emit_segments(True)

    def _drop_words_far_from_speech(self, window: AudioWindow, words: list[Word]) -> list[Word]:
        """The words where somebody speaks; the others, run by run, are noted as suppressed."""
        near_words: list[Word] = []
        for is_near, group in groupby(words, lambda word: self._is_near_speech(window, word.start, word.end)):
            group_words = list(group)
            if is_near:
                near_words += group_words
            else:
                text = "".join(word.word for word in group_words)
                self._add_filtered_segment(group_words[0].start, group_words[-1].end, text.strip(), "far from speech")
        return near_words

    def _add_chunk(self, chunk: _DecodedChunk, merger: ChunkMerger) -> None:
        self._merged_chunks.append(chunk)
        self._final_words += merger.add_chunk(chunk.words, chunk.start, chunk.end)
        self._emit_segments(False)

    def _emit_segments(self, flush: bool) -> None:
        """Make segments of the words that are final."""
        while (count := _first_segment_length(self._final_words, flush)) > 0:
            words, self._final_words = self._final_words[:count], self._final_words[count:]
            self.segments.append(self._make_segment(words))

    def _make_segment(self, words: list[Word]) -> Segment:
        start, end = words[0].start, words[-1].end
        chunk = min(self._merged_chunks, key=lambda candidate: abs(candidate.middle - (start + end) / 2))
        text, window_transcript = "".join(word.word for word in words), chunk.window_transcript
        return Segment(
            id=len(self.segments),
            seek=round(chunk.start * 100),
            start=start,
            end=end,
            text=text,
            tokens=tuple(self.context.model.tokenizer.encode(text)),
            avg_logprob=window_transcript.avg_logprob,
            compression_ratio=compression_ratio(window_transcript.text),
            no_speech_prob=window_transcript.result.no_speech_prob,
            temperature=chunk.temperature,
            words=tuple(words) if self.context.options.word_timestamps else None,
        )


def _find_untranscribed_gap(window: AudioWindow, words: list[Word]) -> int | None:
    """The word after which somebody goes on speaking though the next one was said much later."""
    if window.speech is None:
        return None
    for index, (word, next_word) in enumerate(pairwise(words)):
        word_end = min(word.end, word.start + ASSUMED_WORD_S) - window.start
        untranscribed_seconds = window.speech.speech_seconds(word_end, next_word.start - window.start)
        if (
            untranscribed_seconds >= MIN_UNTRANSCRIBED_SPEECH_S and word.start - window.start >= ASSUMED_WORD_S
        ):  # a chunk of its own begins later than this one
            return index
    return None


def _first_segment_length(words: list[Word], flush: bool) -> int:
    """How many words the first segment has; 0 while that cannot be said."""
    for index in range(1, len(words)):
        previous, pause = words[index - 1], words[index].start - words[index - 1].end
        segment_seconds, last_character = previous.end - words[0].start, previous.word.rstrip("\"'”’»)")[-1:]
        if last_character in SENTENCE_ENDINGS or pause >= SEGMENT_PAUSE_S or segment_seconds >= MAX_SEGMENT_S:
            return index
        if segment_seconds >= SOFT_MAX_SEGMENT_S and (last_character in CLAUSE_ENDINGS or pause >= SHORT_PAUSE_S):
            return index
    return len(words) if flush else 0
