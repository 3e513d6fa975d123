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
from whisperstill.text.languages import UNSPACED_LANGUAGES, language_code

Normalizer: TypeAlias = Callable[[str], str]

NORMALIZERS = ("english", "basic", "none")
ERROR_RATE_UNITS = ("word", "character")
_EXTRA_ENGLISH_RULES = ("kinda", "sorta", "dunno", "cause")


@cache
def get_normalizer(name: str) -> Normalizer:
    """The normaliser called `name`: `english`, `basic`, or `none` (white space only).

    All of them give words separated by single spaces, without space at the ends. Results are remembered: the English
    one costs about half a millisecond a sentence. Raises `SettingsError` for another name.
    """
    apply_rules = _load_rules(name)

    @lru_cache(maxsize=65_536)
    def normalize(text: str) -> str:
        return " ".join(apply_rules(text).split())

    return normalize


def normalizer_name_for(language: str | None) -> str:
    """Name of the normaliser the Whisper authors score a language with: `english` for English, else `basic`.

    A language that Whisper does not know, or none, is scored with `basic` and by word.
    """
    return "english" if _language_code_or_none(language) == "en" else "basic"


def error_rate_unit(language: str | None) -> str:
    """What an error rate of a language counts: `character` where words are not separated by spaces, else `word`."""
    return "character" if _language_code_or_none(language) in UNSPACED_LANGUAGES else "word"


def common_error_rate_unit(languages: Iterable[str | None]) -> str:
    """What an error rate over texts of several languages counts: `character` where none separates words by spaces."""
    return "character" if {error_rate_unit(language) for language in languages} == {"character"} else "word"


def normalize_to_units(text: str, language: str | None) -> list[str]:
    """What an error rate of a text counts: its words, or characters, normalised as its language asks."""
    return split_into_units(get_normalizer(normalizer_name_for(language))(text), language)


def split_into_units(text: str, language: str | None) -> list[str]:
    """The words of a text as it stands, or its characters where words are not separated by spaces."""
    return split_into_characters(text) if error_rate_unit(language) == "character" else text.split()


def split_into_characters(normalized_text: str) -> list[str]:
    """The characters of a normalised text as the units of an error rate: no spaces, marks kept with their letter.

    Words of languages without spaces are scored so, whatever spaces their transcripts happen to have.
    """
    units: list[str] = []
    for character in normalized_text:
        if character.isspace():
            continue
        if units and unicodedata.category(character).startswith("M"):
            units[-1] += character
        else:
            units.append(character)
    return units


@lru_cache(maxsize=65_536)
def normalize_word(word: str) -> str:
    """A word reduced to its letters and digits, lower case, compatibility forms unified; may be empty.

    One word in, one word out, so that positions survive: for aligning words of texts in their original form.
    """
    folded = unicodedata.normalize("NFKC", word).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LNM")


def _language_code_or_none(language: str | None) -> str | None:
    try:
        return None if language is None else language_code(language)
    except SettingsError:
        return None


def _load_rules(name: str) -> Normalizer:
    if name == "english":
        from whisper_normalizer.english import EnglishTextNormalizer

        english_normalizer: Any = EnglishTextNormalizer()
        for word in _EXTRA_ENGLISH_RULES:
            english_normalizer.replacers.pop(rf"\b{word}\b", None)
        return lambda text: str(english_normalizer(text))
    if name == "basic":
        from whisper_normalizer.basic import BasicTextNormalizer

        basic_normalizer: Any = BasicTextNormalizer()
        return lambda text: str(basic_normalizer(text))
    if name == "none":
        return str
    raise SettingsError(f"expected a normalizer out of {', '.join(NORMALIZERS)}, got {name!r}")
