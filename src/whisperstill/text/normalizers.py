"""Text normalizers applied before scoring: Whisper's English and basic normalizers.

They come from the package whisper-normalizer. Its English normalizer adds four rules that openai/whisper does not have
(`kinda`, `sorta`, `dunno`, and `cause` -> `because`, which also changes the noun); they are removed here, so that error
rates are comparable with published ones. The tests compare both normalizers with those of transformers.
"""

import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, TypeAlias

from whisperstill.errors import SettingsError
from whisperstill.text.languages import UNSPACED_LANGUAGES, language_code

Normalizer: TypeAlias = Callable[[str], str]

NORMALIZERS = ("english", "basic", "none")
_EXTRA_ENGLISH_RULES = ("kinda", "sorta", "dunno", "cause")


@cache
def get_normalizer(name: str) -> Normalizer:
    """The normalizer `english`, `basic`, or `none` (white space only).

    Each returns words separated by single spaces. Results are cached: the English normalizer takes about half a
    millisecond per sentence. Raises `SettingsError` for another name.
    """
    apply_rules = _load_rules(name)

    @lru_cache(maxsize=65_536)
    def normalize(text: str) -> str:
        return " ".join(apply_rules(text).split())

    return normalize


def normalizer_name_for(language: str | None) -> str:
    """Name of the normalizer for a language, as in the Whisper paper: `english` for English, else `basic`.

    An unknown language is scored with `basic` and by word.
    """
    return "english" if _language_code_or_none(language) == "en" else "basic"


def error_rate_unit(language: str | None) -> str:
    """Unit of the error rate of a language: `character` for unspaced languages, else `word`."""
    return "character" if _language_code_or_none(language) in UNSPACED_LANGUAGES else "word"


def common_error_rate_unit(languages: Iterable[str | None]) -> str:
    """Unit of an error rate over several languages: `character` if all of them are unspaced, else `word`."""
    return "character" if {error_rate_unit(language) for language in languages} == {"character"} else "word"


def normalize_to_units(text: str, language: str | None) -> list[str]:
    """Normalized words of a text, or characters in unspaced languages: the units of its error rate."""
    return split_into_units(get_normalizer(normalizer_name_for(language))(text), language)


def split_into_units(text: str, language: str | None) -> list[str]:
    """Words of a text without normalization, or characters in unspaced languages."""
    return split_into_characters(text) if error_rate_unit(language) == "character" else text.split()


def split_into_characters(normalized_text: str) -> list[str]:
    """Characters of a text without spaces, combining marks kept with their letter."""
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
    """A word reduced to letters, digits and marks, case-folded, in NFKC; may be empty.

    Unlike the normalizers it maps one word to one word, so word positions are preserved for alignment.
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
    raise SettingsError(f"expected one of the normalizers {', '.join(NORMALIZERS)}, got {name!r}")
