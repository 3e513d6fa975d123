"""Line wrapping of subtitles, with the options of openai/whisper."""

import unicodedata
from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.text.languages import UNSPACED_LANGUAGES


@dataclass(frozen=True)
class LineOptions:
    """Line and cue options of srt and vtt; by default each segment is one cue of one line."""

    max_line_width: int | None = None
    """Maximum characters per line; a longer word is not broken."""
    max_line_count: int | None = None
    """Maximum lines per cue, across segments; a pause of more than 3 s also ends a cue. Needs `max_line_width`."""
    max_words_per_line: int | None = None
    """Maximum words per cue, within a segment. Cannot be combined with `max_line_width`."""
    highlight_words: bool = False
    """Word highlighting: one cue per word, with that word underlined."""

    def __post_init__(self) -> None:
        """Raises one `SettingsError` that lists all problems."""
        problems = []
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} must be at least 1, got {value}")
        if self.max_line_count is not None and self.max_line_width is None:
            problems.append("max_line_count needs max_line_width: without it a cue has one line")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            problems.append("max_words_per_line cannot be combined with max_line_width: leave one of them out")
        if problems:
            raise SettingsError("; ".join(problems))

    @property
    def options_needing_words(self) -> tuple[str, ...]:
        """Options in use that need word timestamps; `max_line_width` alone does not."""
        names = ("max_line_count", "max_words_per_line", "highlight_words")
        return tuple(name for name in names if getattr(self, name))

    def check_word_timestamps(self, available: bool) -> None:
        """Raises `SettingsError` when an option needs word timestamps and they are not `available`."""
        options = self.options_needing_words
        if options and not available:
            verb = "needs" if len(options) == 1 else "need"
            raise SettingsError(f"{' and '.join(options)} {verb} word timestamps: add --word_timestamps")


def wrap_text(text: str, width: int, language: str) -> list[str]:
    """Lines of at most `width` characters, broken between words (between characters in unspaced languages).

    Closing punctuation does not begin a line, opening punctuation does not end one, and combining marks stay with
    their letter. A piece that is longer than a line and cannot be broken is a line of its own.
    """
    lines: list[str] = []
    for piece in split_breakable(text, language):
        if lines and len(lines[-1]) + len(piece) <= width:
            lines[-1] += piece
        elif piece.strip():
            lines.append(piece.strip())
    return [line.strip() for line in lines]


def split_breakable(text: str, language: str) -> list[str]:
    """Unbreakable pieces of a text: words with their leading space, or groups of characters in unspaced languages."""
    text = " ".join(text.split())
    if language not in UNSPACED_LANGUAGES:
        return [f" {word}" if index else word for index, word in enumerate(text.split(" ")) if word]
    groups: list[str] = []
    for character in text:
        if groups and _cannot_break_before(groups[-1], character):
            groups[-1] += character
        else:
            groups.append(character)
    return groups


def _cannot_break_before(previous: str, character: str) -> bool:
    category, last_character = unicodedata.category(character), previous[-1]
    if category.startswith("M") or category in ("Pe", "Pf", "Po"):
        return True
    if unicodedata.category(last_character) in ("Ps", "Pi") or last_character == " ":
        return character != " "
    both_ascii = last_character.isascii() and character.isascii()  # a Latin word or a number in unspaced text
    return both_ascii and not last_character.isspace() and not character.isspace()
