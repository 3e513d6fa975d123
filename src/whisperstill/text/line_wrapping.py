"""How subtitles are broken into lines: the options of openai/whisper, and wrapping text of any language."""

import unicodedata
from dataclasses import dataclass

from whisperstill.errors import SettingsError
from whisperstill.text.languages import UNSPACED_LANGUAGES


@dataclass(frozen=True)
class LineOptions:
    """Lines and cues of srt and vtt; the defaults keep each segment as one cue of one line."""

    max_line_width: int | None = None
    """Characters to a line. A word or a group of characters that is longer stays whole."""
    max_line_count: int | None = None
    """Lines to a cue, across segments; a pause of more than 3 s ends a cue, too. Needs `max_line_width`."""
    max_words_per_line: int | None = None
    """Words to a cue; no cue crosses a segment. Not together with `max_line_width`."""
    highlight_words: bool = False
    """One cue a word, in which that word is underlined."""

    def __post_init__(self) -> None:
        """Raises `SettingsError` that lists all problems."""
        problems = []
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} must be at least 1, got {value}")
        if self.max_line_count is not None and self.max_line_width is None:
            problems.append("max_line_count needs max_line_width: without it a cue has one line")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            problems.append("max_words_per_line cannot go with max_line_width: leave one of them out")
        if problems:
            raise SettingsError("; ".join(problems))

    @property
    def options_needing_words(self) -> tuple[str, ...]:
        """The options given that need word timestamps; `max_line_width` alone does not."""
        names = ("max_line_count", "max_words_per_line", "highlight_words")
        return tuple(name for name in names if getattr(self, name))

    def check_word_timestamps(self, available: bool) -> None:
        """Raises `SettingsError` when word timestamps are needed and not available."""
        if self.options_needing_words and not available:
            verb = "needs" if len(self.options_needing_words) == 1 else "need"
            raise SettingsError(
                f"{' and '.join(self.options_needing_words)} {verb} word timestamps: add --word_timestamps"
            )


def wrap_text(text: str, width: int, language: str) -> list[str]:
    """Lines of at most `width` characters, broken between words, or characters where words have no space between.

    Nothing that closes begins a line, nothing that opens ends one, and no accent leaves its letter. What is longer
    than a line and cannot be broken is a line of its own.
    """
    lines: list[str] = []
    for piece in split_breakable(text, language):
        if lines and len(lines[-1]) + len(piece) <= width:
            lines[-1] += piece
        elif piece.strip():
            lines.append(piece.strip())
    return [line.strip() for line in lines]


def split_breakable(text: str, language: str) -> list[str]:
    """What may stand on a line of its own: words with the space in front of them, or groups of characters."""
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
    """Whether a character cannot begin a line after this piece."""
    category, last_character = unicodedata.category(character), previous[-1]
    if category.startswith("M") or category in ("Pe", "Pf", "Po"):
        return True
    if unicodedata.category(last_character) in ("Ps", "Pi") or last_character == " ":
        return character != " "
    both_ascii = (
        last_character.isascii() and character.isascii()
    )  # a word of Latin letters, or a number, among the others
    return both_ascii and not last_character.isspace() and not character.isspace()
