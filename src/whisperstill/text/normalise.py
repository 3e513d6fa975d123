"""Texts made comparable before they are scored: the Whisper authors' English and basic normalisers.

The rules come from the package whisper-normalizer. Its English normaliser adds four rules of its own (`kinda`,
`sorta`, `dunno`, and `cause` -> `because`, which also changes the noun) that the authors' does not have; they are
taken out here, so that error rates can be compared with published ones. The tests hold both normalisers against
transformers' copy of the authors' code.
"""

import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, TypeAlias

from whisperstill.errors import SettingsError
from whisperstill.text.languages import UNSPACED, language_code

Normaliser: TypeAlias = Callable[[str], str]

NORMALISERS = ("english", "basic", "none")
UNITS = ("word", "character")
_NOT_THE_AUTHORS = ("kinda", "sorta", "dunno", "cause")


@cache
def normaliser(name: str) -> Normaliser:
    """The normaliser called `name`: `english`, `basic`, or `none` (white space only).

    All of them give words separated by single spaces, without space at the ends. Results are remembered: the English
    one costs about half a millisecond a sentence. Raises `SettingsError` for another name.
    """
    rules = _rules(name)

    @lru_cache(maxsize=65_536)
    def normalised(text: str) -> str:
        return " ".join(rules(text).split())

    return normalised


def normaliser_for(language: str | None) -> str:
    """Name of the normaliser the Whisper authors score a language with: `english` for English, else `basic`.

    A language that Whisper does not know, or none, is scored with `basic` and by word.
    """
    return "english" if _code(language) == "en" else "basic"


def unit_for(language: str | None) -> str:
    """What an error rate of a language counts: `character` where words are not separated by spaces, else `word`."""
    return "character" if _code(language) in UNSPACED else "word"


def unit_for_all(languages: Iterable[str | None]) -> str:
    """What an error rate over texts of several languages counts: `character` where none separates words by spaces."""
    return "character" if {unit_for(language) for language in languages} == {"character"} else "word"


def scored_units(text: str, language: str | None) -> list[str]:
    """What an error rate of a text counts: its words, or characters, normalised as its language asks."""
    return spoken_units(normaliser(normaliser_for(language))(text), language)


def spoken_units(text: str, language: str | None) -> list[str]:
    """The words of a text as it stands, or its characters where words are not separated by spaces."""
    return characters(text) if unit_for(language) == "character" else text.split()


def characters(normalised: str) -> list[str]:
    """The characters of a normalised text as the units of an error rate: no spaces, marks kept with their letter.

    Words of languages without spaces are scored so, whatever spaces their transcripts happen to have.
    """
    units: list[str] = []
    for character in normalised:
        if character.isspace():
            continue
        if units and unicodedata.category(character).startswith("M"):
            units[-1] += character
        else:
            units.append(character)
    return units


@lru_cache(maxsize=65_536)
def simple_word(word: str) -> str:
    """A word reduced to its letters and digits, lower case, compatibility forms unified; may be empty.

    One word in, one word out, so that positions survive: for aligning words of texts in their original form.
    """
    folded = unicodedata.normalize("NFKC", word).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LNM")


def _code(language: str | None) -> str | None:
    try:
        return None if language is None else language_code(language)
    except SettingsError:
        return None


def _rules(name: str) -> Normaliser:
    if name == "english":
        from whisper_normalizer.english import EnglishTextNormalizer

        english: Any = EnglishTextNormalizer()
        for word in _NOT_THE_AUTHORS:
            english.replacers.pop(rf"\b{word}\b", None)
        return lambda text: str(english(text))
    if name == "basic":
        from whisper_normalizer.basic import BasicTextNormalizer

        basic: Any = BasicTextNormalizer()
        return lambda text: str(basic(text))
    if name == "none":
        return str
    raise SettingsError(f"expected a normaliser out of {', '.join(NORMALISERS)}, got {name!r}")
