"""Chunks of a recording put together as they come, however long it is."""

from collections.abc import Sequence
from dataclasses import replace

from whisperstill.decode.seams import Seam, merge, without_agreement
from whisperstill.decode.transcript import Word


class Stitching:
    """The words of one recording, put together chunk by chunk as they come; only the last chunk's words are held.

    Chunks are added in order of time. A chunk that does not agree with the one before is joined all the same, and its
    seam says so. To do better, ask `agrees` before adding it and, if not, add a window centred on the seam first,
    if that one agrees with both.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.seams: list[Seam] = []
        """One for each chunk after the first; `left` and `right` count within the words that were compared."""
        self._held: list[Word] = []
        self._end: float | None = None
        self._cut = 0.0
        """Seconds of the last seam: what lies before it is final, whatever a later chunk says."""
        self._said = 0.0

    def agrees(self, words: Sequence[Word], begin: float) -> bool:
        """Whether the chunk that begins at `begin` can be joined to the last one."""
        begin = max(begin, self._cut)
        if self._end is None or begin >= self._end:
            return True
        return merge(self._held, self._open(words), begin, self._end, self.language) is not None

    def add(self, words: Sequence[Word], begin: float, end: float) -> list[Word]:
        """Join a chunk of the seconds `begin` to `end`; the words that are final now."""
        if self._end is None:
            self._held, self._end = list(words), end
            return []
        begin, words = max(begin, self._cut), self._open(words)
        if begin >= self._end:  # no overlap, nothing to compare
            seam = Seam(len(self._held), 0, (begin + self._end) / 2)
        else:
            overlap = self._held, words, begin, self._end
            seam = merge(*overlap, self.language) or without_agreement(*overlap)
        kept, rest = self._held[: seam.left], list(words[seam.right :])
        if kept and rest and kept[-1].end > rest[0].start:  # an end is often put too late, in front of a pause
            kept[-1] = replace(kept[-1], end=max(kept[-1].start, rest[0].start))
        self.seams.append(seam)
        self._held, self._end, self._cut = rest, end, max(self._cut, seam.time)
        return self._in_order(kept)

    def finish(self) -> list[Word]:
        """The words that are left; the next chunk begins another recording."""
        final = self._in_order(self._held)
        self._held, self._end, self._cut, self._said = [], None, 0.0, 0.0
        return final

    def _open(self, words: Sequence[Word]) -> list[Word]:
        """The words about which no seam has decided yet."""
        return [word for word in words if (word.start + word.end) / 2 >= self._cut]

    def _in_order(self, words: Sequence[Word]) -> list[Word]:
        """The same words; none begins before the one in front of it has ended."""
        ordered = []
        for word in words:
            if word.start < self._said:
                word = replace(word, start=self._said, end=max(word.end, self._said))
            self._said = word.end
            ordered.append(word)
        return ordered
