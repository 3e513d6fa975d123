"""Strategy `chunked`: overlapping chunks, decoded in parallel and merged by their words.

Chunks of c seconds begin every 2c/3 (the paper's stride of c/6 on each side), so audio near an edge of one chunk is far
from the edges of its neighbour. Words are aligned by text and time (`chunk_merge`). Where two neighbours share no
word, a chunk centred on their overlap is decoded and merged with each of them. The model ends about one chunk in ten
although speech goes on; the rest is then decoded as a chunk of its own, as is the audio after a gap of seconds of
speech without a word.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from whisperstill.decode.longform.chunk_merge import ChunkMerger, find_merge_point
from whisperstill.decode.longform.segments import DecodedChunk, WordSegmenter, resume_at
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.longform.window import AudioWindow, WindowResult
from whisperstill.decode.output.transcript import Word

MIN_UNTRANSCRIBED_SPEECH_S = 2.5
"""Speech between a word and the next one that makes an untranscribed gap; slow speech leaves up to one second."""
ASSUMED_WORD_S = 1.0
"""Length assumed of the word before a gap, whose end time is unreliable."""
REWIND_BEFORE_WORD_S = 0.1
"""Audio before the word at a gap that is decoded again with it."""
MAX_LOOKAHEAD_CHUNKS = 64
"""Chunks requested ahead of the merged ones; audio is kept as long as a merge may need it."""


@dataclass(slots=True)
class _PendingChunk:
    """A chunk that is not merged yet: a window being decoded, then its result."""

    window: AudioWindow | None
    next_chunk_start: float
    """Seconds at which the next regular chunk begins."""
    chunk: DecodedChunk | None = None


class Chunked(LongFormStrategy):
    """Decodes overlapping chunks in any order and merges them in order of time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chunk_seconds = self.window_seconds
        self._step_seconds = self._chunk_seconds * 2 / 3
        self._num_cut = 0
        """Regular chunks requested so far."""
        self._all_cut = False
        self._pending_chunks: deque[_PendingChunk] = deque()
        """Chunks that are not merged yet, in order of time."""
        self._extra_windows: deque[AudioWindow] = deque()
        """Windows beside the regular chunks: remainders and centred chunks."""
        self._centered_window: AudioWindow | None = None
        """The chunk centred on an overlap without a match that is being decoded."""
        self._merger = ChunkMerger("en")
        self._segmenter = WordSegmenter(self.model.tokenizer, self.options.word_timestamps)

    @property
    def finished(self) -> bool:
        return self._all_cut and not self._pending_chunks

    def next_window(self) -> AudioWindow | None:
        """See `LongFormStrategy`."""
        if self._extra_windows:
            return self._extra_windows.popleft()
        if self._all_cut or len(self._pending_chunks) > MAX_LOOKAHEAD_CHUNKS:
            return None
        start = self._num_cut * self._step_seconds
        window = self._read_window(start)
        self._all_cut = not self.reader.has_audio_after(start + self._chunk_seconds)
        self._num_cut += 1
        self._pending_chunks.append(_PendingChunk(window, math.inf if self._all_cut else start + self._step_seconds))
        return window

    def on_result(self, result: WindowResult) -> None:
        """See `LongFormStrategy`."""
        self.update_language(result)
        self._merger.language = self.options.output_language(self.language_code)
        if result.window is self._centered_window:
            self._on_centered_result(result)
        else:
            self._on_chunk_result(result)
        self._merge_ready_chunks()

    def _on_chunk_result(self, result: WindowResult) -> None:
        """Store a chunk's words, and request what it left untranscribed."""
        window, accepted = result.window, self.filter.accept_window(result)
        position = next(index for index, candidate in enumerate(self._pending_chunks) if candidate.window is window)
        pending = self._pending_chunks[position]
        # 1. Words up to where the transcript breaks off, if it does.
        resume_seconds = None
        if accepted and self.timestamps:
            resume_seconds = resume_at(result, self.model.vocabulary)
        words = self._words_near_speech(result, resume_seconds) if accepted else []
        # 2. Drop the words after a gap, and the one before it, whose end time is unreliable.
        if (gap_index := _find_untranscribed_gap(window, words)) is not None:
            previous_end = words[gap_index - 1].end if gap_index else 0.0
            resume_seconds = max(words[gap_index].start - REWIND_BEFORE_WORD_S, previous_end) - window.start
            words = words[:gap_index]
        # 3. Request the rest, unless the next regular chunk holds it.
        if resume_seconds is not None and window.start + resume_seconds < pending.next_chunk_start:
            remainder = self._read_window(window.start + resume_seconds)
            self._pending_chunks.insert(position + 1, _PendingChunk(remainder, pending.next_chunk_start))
            self._extra_windows.append(remainder)
        pending.chunk, pending.window = _make_chunk(result, words, resume_seconds), None

    def _on_centered_result(self, result: WindowResult) -> None:
        """Merge the chunk centred on an overlap, if it matches both neighbours, then the chunk after the overlap."""
        accepted = self.filter.accept_window(result)
        center = _make_chunk(result, self._words_near_speech(result, None) if accepted else [], None)
        next_chunk = self._pending_chunks.popleft().chunk
        assert next_chunk is not None
        language = self._merger.language
        matches_next = find_merge_point(center.words, next_chunk.words, next_chunk.start, center.end, language)
        if matches_next and self._merger.can_merge(center.words, center.start):
            self._merge(center)
        self._merge(next_chunk)
        self._centered_window = None

    def _merge_ready_chunks(self) -> None:
        """Merge decoded chunks in order of time, up to the first that is still being decoded."""
        while self._centered_window is None and self._pending_chunks:
            chunk, previous = self._pending_chunks[0].chunk, self._last_chunk()
            if chunk is None:
                break
            if previous is not None and chunk.end <= previous.end:  # broke off within the previous chunk
                self._pending_chunks.popleft()
                continue
            if previous is not None and not self._merger.can_merge(chunk.words, chunk.start):
                middle = (chunk.start + previous.end) / 2
                self._centered_window = self._read_window(max(0.0, middle - self._chunk_seconds / 2))
                self._extra_windows.append(self._centered_window)
                return
            self._pending_chunks.popleft()
            self._merge(chunk)
        if last_chunk := self._last_chunk():
            self.reader.discard_before(last_chunk.start - self._chunk_seconds)
        if self.finished:
            self.add_segments(self._segmenter.split(self._merger.finish(), flush=True))

    def _merge(self, chunk: DecodedChunk) -> None:
        self._segmenter.chunks.append(chunk)
        final_words = self._merger.add_chunk(chunk.words, chunk.start, chunk.end)
        self.add_segments(self._segmenter.split(final_words))

    def _last_chunk(self) -> DecodedChunk | None:
        return self._segmenter.chunks[-1] if self._segmenter.chunks else None

    def _read_window(self, start: float) -> AudioWindow:
        return self.make_window(start, self.reader.read(start, self._chunk_seconds))

    def _words_near_speech(self, result: WindowResult, resume_seconds: float | None) -> list[Word]:
        words = self.words_from(result, resume_seconds)
        return self.filter.drop_far_words(result.window, words)


def _make_chunk(result: WindowResult, words: list[Word], resume_seconds: float | None) -> DecodedChunk:
    window = result.window
    end = window.start + (window.duration if resume_seconds is None else resume_seconds)
    return DecodedChunk(window.start, end, words, result.window_transcript, result.temperature)


def _find_untranscribed_gap(window: AudioWindow, words: list[Word]) -> int | None:
    """Index of the word after which speech goes on although the next word comes seconds later; None if there is none.

    The word begins `ASSUMED_WORD_S` after the window or later, so that the remainder begins later than the window.
    """
    if window.speech is None:
        return None
    for index, (word, next_word) in enumerate(pairwise(words)):
        word_end = min(word.end, word.start + ASSUMED_WORD_S) - window.start
        speech_seconds = window.speech.speech_seconds(word_end, next_word.start - window.start)
        if speech_seconds >= MIN_UNTRANSCRIBED_SPEECH_S and word.start - window.start >= ASSUMED_WORD_S:
            return index
    return None
