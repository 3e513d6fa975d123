"""Cues of subtitles: which text stands on the screen from when to when.

The options have openai/whisper's meanings. A part of a segment takes its times from its words. Whatever the times say,
cues do not overlap and none is empty: a cue ends where the next begins, begins where the one before ended, and lasts
at least a millisecond.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whisperstill.decode.transcript import Segment, Transcript, Word
from whisperstill.text.lines import LineOptions, wrapped

LONG_PAUSE = 3.0
"""Seconds between the beginnings of words: what ends a cue that may cross segments."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that stand on the screen together."""

    start: int
    """Milliseconds from the beginning of the recording."""
    end: int
    text: str
    """Lines with a newline between; no blank ones."""


Line = list[Word]


def cues_of(transcript: Transcript, options: LineOptions | None = None) -> list[Cue]:
    """The cues of a transcript, in order.

    Raises `SettingsError` where an option needs word timestamps (`LineOptions.need_words`) that a segment lacks.
    """
    options = options or LineOptions()
    options.check_words(all(segment.words is not None for segment in transcript.segments))
    if options.need_words:
        return in_order(list(_cues_of_words(transcript, options)))
    width, language = options.max_line_width, transcript.written_in
    return in_order(
        [
            Cue(_milliseconds(segment.start), _milliseconds(segment.end), text)
            for segment in transcript.segments
            if (text := _wrapped_text(segment.text, width, language))
        ]
    )


def in_order(cues: Sequence[Cue]) -> list[Cue]:
    """The same cues without overlap, each at least a millisecond long."""
    placed: list[Cue] = []
    for number, cue in enumerate(cues):
        start = max(cue.start, placed[-1].end if placed else 0)
        following = cues[number + 1].start if number + 1 < len(cues) else cue.end
        end = min(cue.end, following) if following > start else cue.end
        placed.append(replace(cue, start=start, end=max(end, start + 1)))
    return placed


def clean(text: str) -> str:
    """Text that cannot be mistaken for the line between two times, or for the end of a cue."""
    return " ".join(text.replace("-->", "->").split())


def _cues_of_words(transcript: Transcript, options: LineOptions) -> Iterator[Cue]:
    for lines in _groups(transcript.segments, options):
        words = [word for line in lines for word in line]
        if options.highlight_words:
            yield from _highlighted(lines)
        else:
            yield Cue(_milliseconds(words[0].start), _milliseconds(words[-1].end), _text(lines))


def _groups(segments: Sequence[Segment], options: LineOptions) -> Iterator[list[Line]]:
    """The words of each cue, line by line."""
    lines: list[Line] = []
    room, last = 0, 0.0
    across = options.max_line_count is not None
    for segment in segments:
        words = _words(segment)
        for number, word in enumerate(words):
            chunk = number == 0 if options.max_words_per_line is None else number % options.max_words_per_line == 0
            pause = across and word.start - last > LONG_PAUSE
            last = word.start
            fits = options.max_line_width is None or len(word.word) <= room
            begins = not across and chunk
            if lines and fits and not pause and not begins:
                lines[-1].append(word)
                room -= len(word.word)
                continue
            full = options.max_line_count is not None and len(lines) >= options.max_line_count
            if lines and (full or pause or begins):
                yield lines
                lines = []
            lines.append([word])
            room = (options.max_line_width or 0) - len(word.word.strip())
    if lines:
        yield lines


def _words(segment: Segment) -> list[Word]:
    """The words with text; the whole segment as one word where its text has none."""
    words = [word for word in segment.words or () if word.word.strip()]
    if not words and segment.text.strip():
        return [Word(segment.start, segment.end, segment.text, 1.0)]
    return words


def _highlighted(lines: list[Line]) -> Iterator[Cue]:
    """A cue for each word, and one without any mark for each pause between them."""
    places = [(row, column) for row, line in enumerate(lines) for column in range(len(line))]
    until = lines[0][0].start
    for row, column in places:
        word = lines[row][column]
        if word.start > until:
            yield Cue(_milliseconds(until), _milliseconds(word.start), _text(lines))
        yield Cue(_milliseconds(word.start), _milliseconds(word.end), _text(lines, (row, column)))
        until = max(until, word.end)


def _text(lines: list[Line], marked: tuple[int, int] | None = None) -> str:
    written = []
    for row, line in enumerate(lines):
        words = [word.word for word in line]
        if marked is not None and marked[0] == row:
            words[marked[1]] = _underlined(words[marked[1]])
        written.append(clean("".join(words)))
    return "\n".join(written)


def _underlined(word: str) -> str:
    bare = word.strip()
    return word.replace(bare, f"<u>{bare}</u>", 1)


def _wrapped_text(text: str, width: int | None, language: str) -> str:
    text = clean(text)
    return text if width is None else "\n".join(wrapped(text, width, language))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
