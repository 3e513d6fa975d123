"""Chunks of a recording put together as they come, however long it is."""

from collections.abc import Sequence
from dataclasses import replace

from whisperstill.decode.longform.chunk_merge import MergePoint, find_merge_point, merge_without_match
from whisperstill.decode.output.transcript import Word


class ChunkMerger:
    """The words of one recording, put together chunk by chunk as they come; only the last chunk's words are held.

    Chunks are added in order of time. A chunk that does not agree with the one before is joined all the same, and its
    seam says so. To do better, ask `agrees` before adding it and, if not, add a window centred on the seam first,
    if that one agrees with both.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.merge_points: list[MergePoint] = []
        """One for each chunk after the first; `left` and `right` count within the words that were compared."""
        self._pending_words: list[Word] = []
        self._last_chunk_end: float | None = None
        self._last_merge_time = 0.0
        """Seconds of the last seam: what lies before it is final, whatever a later chunk says."""
        self._last_word_end = 0.0

    def can_merge(self, words: Sequence[Word], begin: float) -> bool:
        """Whether the chunk that begins at `begin` can be joined to the last one."""
        begin = max(begin, self._last_merge_time)
        if self._last_chunk_end is None or begin >= self._last_chunk_end:
            return True
        return (
            find_merge_point(
                self._pending_words, self._undecided_words(words), begin, self._last_chunk_end, self.language
            )
            is not None
        )

    def add_chunk(self, words: Sequence[Word], begin: float, end: float) -> list[Word]:
        """Join a chunk of the seconds `begin` to `end`; the words that are final now."""
        if self._last_chunk_end is None:
            self._pending_words, self._last_chunk_end = list(words), end
            return []
        begin, words = max(begin, self._last_merge_time), self._undecided_words(words)
        if begin >= self._last_chunk_end:  # no overlap, nothing to compare
            merge_point = MergePoint(len(self._pending_words), 0, (begin + self._last_chunk_end) / 2)
        else:
            merge_arguments = self._pending_words, words, begin, self._last_chunk_end
            merge_point = find_merge_point(*merge_arguments, self.language) or merge_without_match(*merge_arguments)
        final_words, pending_words = self._pending_words[: merge_point.left_end], list(words[merge_point.right_start :])
        if (
            final_words and pending_words and final_words[-1].end > pending_words[0].start
        ):  # an end is often put too late, in front of a pause
            final_words[-1] = replace(final_words[-1], end=max(final_words[-1].start, pending_words[0].start))
        self.merge_points.append(merge_point)
        self._pending_words, self._last_chunk_end, self._last_merge_time = (
            pending_words,
            end,
            max(self._last_merge_time, merge_point.time),
        )
        return self._without_time_overlap(final_words)

    def finish(self) -> list[Word]:
        """The words that are left; the next chunk begins another recording."""
        final_words = self._without_time_overlap(self._pending_words)
        self._pending_words, self._last_chunk_end, self._last_merge_time, self._last_word_end = [], None, 0.0, 0.0
        return final_words

    def _undecided_words(self, words: Sequence[Word]) -> list[Word]:
        """The words about which no seam has decided yet."""
        return [word for word in words if (word.start + word.end) / 2 >= self._last_merge_time]

    def _without_time_overlap(self, words: Sequence[Word]) -> list[Word]:
        """The same words; none begins before the one in front of it has ended."""
        ordered = []
        for word in words:
            if word.start < self._last_word_end:
                word = replace(word, start=self._last_word_end, end=max(word.end, self._last_word_end))
            self._last_word_end = word.end
            ordered.append(word)
        return ordered
