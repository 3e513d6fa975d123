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

from whisperstill.audio.reader import Reader
from whisperstill.decode.plans import Plan, Setting
from whisperstill.decode.recogniser import Recognised
from whisperstill.decode.seams import Seam, merge
from whisperstill.decode.stitching import Stitching
from whisperstill.decode.transcript import Segment, Word, compression_ratio
from whisperstill.decode.windows import Heard, Spoken, Window

PAUSE = 1.0
"""Seconds of silence that end a segment."""
LONG = 12.0
"""Seconds after which a segment ends at the next comma or short pause."""
LONGEST = 24.0
"""Seconds after which it ends anyway."""
SHORT_PAUSE = 0.3
HOLE = 2.5
"""Seconds of voice between the first second of a word and the next word that were not heard; slow speech has one."""
WORD = 1.0
"""Seconds that a word lasts; before a hole its end is put anywhere."""
ONSET = 0.1
"""Seconds in front of a word from which it is heard again."""
AHEAD = 64
"""Chunks beyond those joined that may be asked for: audio is held as long as a seam may be in it."""
ENDS = frozenset(".?!。？！…")
COMMAS = frozenset(",;:،、，；：—")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk that was heard: its words, and what the network said of itself."""

    start: float
    end: float
    words: list[Word]
    recognised: Recognised
    temperature: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(slots=True)
class _Place:
    """A stretch of the recording: a window that is being heard, then the chunk that it became."""

    window: Window | None
    following: float
    """Seconds at which the next chunk begins that is cut in any case."""
    chunk: _Chunk | None = None


class Chunked(Plan):
    """Overlapping chunks of `length` seconds."""

    def __init__(self, setting: Setting, spoken: Spoken, reader: Reader, length: float) -> None:
        super().__init__(setting, spoken, reader)
        self._length = length
        self._cut = 0
        """Chunks that were asked for."""
        self._order: deque[_Place] = deque()
        """What is not yet joined, in order of time."""
        self._extra: deque[Window] = deque()
        self._seam: Window | None = None
        """The window centred on a seam that is being heard."""
        self._all_cut = False
        self._stitching: Stitching | None = None
        self._past: deque[_Chunk] = deque(maxlen=4)
        self._said: list[Word] = []
        """Words that are not yet part of a segment."""

    @property
    def seams(self) -> list[Seam]:
        """Where chunks were joined."""
        return self._stitching.seams if self._stitching else []

    def next(self) -> Window | None:
        """See `Plan`."""
        if self._extra:
            return self._extra.popleft()
        if self._all_cut or len(self._order) > AHEAD:
            return None
        start = self._cut * self._step
        waveform = self.reader.stretch(start, self._length)
        self._all_cut = not self.reader.goes_beyond(start + self._length)
        prefix = () if self._cut else self.setting.prefix
        window = self.window(start, waveform, prefix=prefix)
        self._cut += 1
        self._order.append(_Place(window, math.inf if self._all_cut else start + self._step))
        return window

    def take(self, heard: Heard) -> None:
        """See `Plan`."""
        window, believed = heard.window, self.believed(heard)
        if self._stitching is None:
            self._stitching = Stitching("en")
        self._stitching.language = self.setting.options.written_in(
            self.spoken.code or "en"
        )  # unknown while all is quiet
        if window is self._seam:
            words = self._words(heard, None) if believed else []
            self._take_seam(self._chunk(heard, words, None), self._stitching)
        else:
            at = next(index for index, place in enumerate(self._order) if place.window is window)
            place, left = self._order[at], self.left_at(heard) if believed else None
            words = self._words(heard, left) if believed else []
            if (last := _before_hole(window, words)) is not None:  # it is heard once more: its end is anywhere
                onset = max(words[last].start - ONSET, words[last - 1].end if last else 0.0)
                left, words = onset - window.start, words[:last]
            if left is not None and window.start + left < place.following:  # else the next chunk holds what is left
                rest = self.window(window.start + left, self.reader.stretch(window.start + left, self._length))
                self._order.insert(at + 1, _Place(rest, place.following))
                self._extra.append(rest)
            place.chunk, place.window = self._chunk(heard, words, left), None
        self._go_on(self._stitching)

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._all_cut and not self._order

    @property
    def _step(self) -> float:
        return self._length * 2 / 3

    def _words(self, heard: Heard, left: float | None) -> list[Word]:
        return self._near_voice(heard.window, self.words(heard, left))

    @staticmethod
    def _chunk(heard: Heard, words: list[Word], left: float | None) -> _Chunk:
        window = heard.window
        end = window.start + (window.duration if left is None else left)
        return _Chunk(window.start, end, words, heard.recognised, heard.temperature)

    def _take_seam(self, centre: _Chunk, stitching: Stitching) -> None:
        """Join the window centred on a seam, if it agrees with both sides, and the chunk behind the seam."""
        after = self._order.popleft().chunk
        assert after is not None
        joins = merge(centre.words, after.words, after.start, centre.end, stitching.language)
        if joins and stitching.agrees(centre.words, centre.start):
            self._join(centre, stitching)
        self._join(after, stitching)
        self._seam = None

    def _go_on(self, stitching: Stitching) -> None:
        """Join what has come in order."""
        while self._seam is None and self._order and (chunk := self._order[0].chunk) is not None:
            before = self._past[-1] if self._past else None
            if before is not None and chunk.end <= before.end:  # given up so early that the one before heard it all
                self._order.popleft()
                continue
            if before is not None and not stitching.agrees(chunk.words, chunk.start):
                middle = (chunk.start + before.end) / 2
                start = max(0.0, middle - self._length / 2)
                self._seam = self.window(start, self.reader.stretch(start, self._length))
                self._extra.append(self._seam)
                return
            self._order.popleft()
            self._join(chunk, stitching)
        if self._past:
            self.reader.forget(self._past[-1].start - self._length)
        if self.finished:
            self._said += stitching.finish()
            self._segment(True)

    def _near_voice(self, window: Window, words: list[Word]) -> list[Word]:
        """The words where somebody speaks; the others, run by run, are noted as suppressed."""
        near: list[Word] = []
        for believed, run in groupby(words, lambda word: self._is_near_voice(window, word.start, word.end)):
            some = list(run)
            if believed:
                near += some
            else:
                text = "".join(word.word for word in some)
                self._suppress(some[0].start, some[-1].end, text.strip(), "far from any voice")
        return near

    def _join(self, chunk: _Chunk, stitching: Stitching) -> None:
        self._past.append(chunk)
        self._said += stitching.add(chunk.words, chunk.start, chunk.end)
        self._segment(False)

    def _segment(self, everything: bool) -> None:
        """Make segments of the words that are final."""
        while (count := _first_segment(self._said, everything)) > 0:
            words, self._said = self._said[:count], self._said[count:]
            self.segments.append(self._segment_of(words))

    def _segment_of(self, words: list[Word]) -> Segment:
        start, end = words[0].start, words[-1].end
        chunk = min(self._past, key=lambda one: abs(one.middle - (start + end) / 2))
        text, heard = "".join(word.word for word in words), chunk.recognised
        return Segment(
            id=len(self.segments),
            seek=round(chunk.start * 100),
            start=start,
            end=end,
            text=text,
            tokens=tuple(self.setting.recogniser.tokenizer.encode(text)),
            avg_logprob=heard.mean_logprob,
            compression_ratio=compression_ratio(heard.text),
            no_speech_prob=heard.decoded.no_speech,
            temperature=chunk.temperature,
            words=tuple(words) if self.setting.options.word_timestamps else None,
        )


def _before_hole(window: Window, words: list[Word]) -> int | None:
    """The word after which somebody goes on speaking though the next one was said much later."""
    if window.voice is None:
        return None
    for at, (word, following) in enumerate(pairwise(words)):
        ends = min(word.end, word.start + WORD) - window.start
        unheard = window.voice.seconds(ends, following.start - window.start)
        if unheard >= HOLE and word.start - window.start >= WORD:  # a chunk of its own begins later than this one
            return at
    return None


def _first_segment(words: list[Word], everything: bool) -> int:
    """How many words the first segment has; 0 while that cannot be said."""
    for at in range(1, len(words)):
        before, pause = words[at - 1], words[at].start - words[at - 1].end
        lasts, last = before.end - words[0].start, before.word.rstrip("\"'”’»)")[-1:]
        if last in ENDS or pause >= PAUSE or lasts >= LONGEST:
            return at
        if lasts >= LONG and (last in COMMAS or pause >= SHORT_PAUSE):
            return at
    return len(words) if everything else 0
