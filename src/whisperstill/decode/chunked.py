"""`chunked`: chunks that overlap, all decoded at the same time, joined by their words.

Chunks of c seconds begin every 2c/3 (the paper's stride of c/6 on each side), so that what is near an edge of one is
far from an edge of its neighbour. Their words are aligned by text and time (`decode.seams`). Where two neighbours do
not agree on a single word, a window centred on the seam is heard as well and joined with each of them.
"""

from collections import deque
from dataclasses import dataclass
from itertools import groupby

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


class Chunked(Plan):
    """Overlapping chunks of `length` seconds."""

    def __init__(self, setting: Setting, spoken: Spoken, reader: Reader, length: float) -> None:
        super().__init__(setting, spoken, reader)
        self._length = length
        self._cut, self._joined = 0, 0
        """Chunks that were asked for; chunks that were put together."""
        self._heard: dict[int, _Chunk] = {}
        self._marks: dict[int, int] = {}
        self._seam: Window | None = None
        self._waits = False
        """Whether a window centred on a seam is being heard."""
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
        if self._seam is not None:
            window, self._seam = self._seam, None
            return window
        if self._all_cut or self._cut > self._joined + 64:  # audio is held as long as a seam may be in it
            return None
        start = self._cut * self._length * 2 / 3
        waveform = self.reader.stretch(start, self._length)
        self._all_cut = not self.reader.goes_beyond(start + self._length)
        prefix = () if self._cut else self.setting.prefix
        window = self.window(start, waveform, prefix=prefix)
        self._marks[id(window)] = self._cut
        self._cut += 1
        return window

    def take(self, heard: Heard) -> None:
        """See `Plan`."""
        window = heard.window
        words = self._near_voice(window, self.words(heard)) if self.believed(heard) else []
        end = window.start + window.duration
        chunk = _Chunk(window.start, end, words, heard.recognised, heard.temperature)
        mark = self._marks.pop(id(window), None)
        if self._stitching is None:
            self._stitching = Stitching(self.spoken.code or "en")
        if mark is None:  # the window centred on a seam
            after = self._heard.pop(self._joined)
            joins = merge(chunk.words, after.words, after.start, chunk.end, self._stitching.language)
            if joins and self._stitching.agrees(chunk.words, chunk.start):
                self._join(chunk)
            self._join(after)
            self._joined += 1
            self._waits = False
        else:
            self._heard[mark] = chunk
        self._go_on()

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return self._all_cut and self._joined == self._cut

    def _go_on(self) -> None:
        """Join what has come in order."""
        assert self._stitching is not None
        while not self._waits and (chunk := self._heard.get(self._joined)) is not None:
            before = self._past[-1] if self._past else None
            if before is not None and not self._stitching.agrees(chunk.words, chunk.start):
                self._waits = True
                middle = (chunk.start + before.end) / 2
                start = max(0.0, middle - self._length / 2)
                self._seam = self.window(start, self.reader.stretch(start, self._length))
                return
            self._join(self._heard.pop(self._joined))
            self._joined += 1
        self.reader.forget(max(0.0, (self._joined - 1) * self._length * 2 / 3))
        if self.finished:
            self._said += self._stitching.finish()
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

    def _join(self, chunk: _Chunk) -> None:
        assert self._stitching is not None
        self._past.append(chunk)
        self._said += self._stitching.add(chunk.words, chunk.start, chunk.end)
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
