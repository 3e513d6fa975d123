"""Subtitle cues: which text is shown from when to when.

The options have openai/whisper's meanings. Parts of a segment are timed by its words. Whatever the word times, cues do
not overlap and none is empty: a cue ends where the next one begins, and lasts at least a millisecond.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whisperstill.decode.output.transcript import Segment, Transcript, Word
from whisperstill.text.line_wrapping import LineOptions, wrap_text

MAX_WORD_START_GAP_S = 3.0
"""Time between the starts of two words above which a cue that crosses segments ends."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown together."""

    start: int
    """Milliseconds from the start of the recording."""
    end: int
    text: str
    """Lines separated by newlines; none is blank."""


Line = list[Word]


def make_cues(transcript: Transcript, options: LineOptions | None = None) -> list[Cue]:
    """The cues of a transcript, in order.

    Raises `SettingsError` if an option needs word timestamps (`LineOptions.options_needing_words`) and a segment has
    none.
    """
    options = options or LineOptions()
    options.check_word_timestamps(all(segment.words is not None for segment in transcript.segments))
    make = _cues_from_words if options.options_needing_words else _cues_from_segments
    return remove_cue_overlaps(list(make(transcript, options)))


def remove_cue_overlaps(cues: Sequence[Cue]) -> list[Cue]:
    """The cues without overlap, each at least a millisecond long."""
    ordered: list[Cue] = []
    for index, cue in enumerate(cues):
        start = max(cue.start, ordered[-1].end if ordered else 0)
        next_start = cues[index + 1].start if index + 1 < len(cues) else cue.end
        end = min(cue.end, next_start) if next_start > start else cue.end
        ordered.append(replace(cue, start=start, end=max(end, start + 1)))
    return ordered


def clean_cue_text(text: str) -> str:
    """The text on one line and without `-->`, which separates times."""
    return " ".join(text.replace("-->", "->").split())


def _cues_from_segments(transcript: Transcript, options: LineOptions) -> Iterator[Cue]:
    for segment in transcript.segments:
        if text := clean_cue_text(segment.text):
            width = options.max_line_width
            lines = [text] if width is None else wrap_text(text, width, transcript.text_language)
            yield _timed_cue(segment.start, segment.end, "\n".join(lines))


def _cues_from_words(transcript: Transcript, options: LineOptions) -> Iterator[Cue]:
    for lines in _group_words(transcript.segments, options):
        if options.highlight_words:
            yield from _highlighted_cues(lines)
        else:
            yield _timed_cue(lines[0][0].start, lines[-1][-1].end, _cue_text(lines))


def _group_words(segments: Sequence[Segment], options: LineOptions) -> Iterator[list[Line]]:
    """Words of each cue, line by line."""
    lines: list[Line] = []
    remaining_width, last_start = 0, 0.0
    across_segments = options.max_line_count is not None
    for segment in segments:
        words = _words_with_text(segment)
        for word_index, word in enumerate(words):
            starts_cue = not across_segments and word_index % (options.max_words_per_line or len(words)) == 0
            is_long_pause = across_segments and word.start - last_start > MAX_WORD_START_GAP_S
            last_start = word.start
            fits = options.max_line_width is None or len(word.word) <= remaining_width
            if lines and fits and not is_long_pause and not starts_cue:
                lines[-1].append(word)
                remaining_width -= len(word.word)
                continue
            is_full = options.max_line_count is not None and len(lines) >= options.max_line_count
            if lines and (is_full or is_long_pause or starts_cue):
                yield lines
                lines = []
            lines.append([word])
            remaining_width = (options.max_line_width or 0) - len(word.word.strip())
    if lines:
        yield lines


def _words_with_text(segment: Segment) -> list[Word]:
    """The words with text; the segment as one word if there are none."""
    words = [word for word in segment.words or () if word.word.strip()]
    if not words and segment.text.strip():
        return [Word(segment.start, segment.end, segment.text, 1.0)]
    return words


def _highlighted_cues(lines: list[Line]) -> Iterator[Cue]:
    """A cue for each word, and one without any mark for each pause between them."""
    previous_end = lines[0][0].start
    for word in (word for line in lines for word in line):
        if word.start > previous_end:
            yield _timed_cue(previous_end, word.start, _cue_text(lines))
        yield _timed_cue(word.start, word.end, _cue_text(lines, underlined=word))
        previous_end = max(previous_end, word.end)


def _cue_text(lines: list[Line], underlined: Word | None = None) -> str:
    texts = ("".join(_underline(word.word) if word is underlined else word.word for word in line) for line in lines)
    return "\n".join(map(clean_cue_text, texts))


def _underline(word: str) -> str:
    return word.replace(word.strip(), f"<u>{word.strip()}</u>", 1)


def _timed_cue(start_seconds: float, end_seconds: float, text: str) -> Cue:
    return Cue(max(0, round(start_seconds * 1000)), max(0, round(end_seconds * 1000)), text)
