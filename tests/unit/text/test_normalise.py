"""Both normalisers against transformers' copy of the Whisper authors' code."""

import random

import pytest

from whisperstill.errors import SettingsError
from whisperstill.text.normalise import (
    characters,
    normaliser,
    normaliser_for,
    scored_units,
    simple_word,
    unit_for,
    unit_for_all,
)

oracle = pytest.importorskip("transformers.models.whisper.english_normalizer")


@pytest.fixture(scope="module")
def authors_english() -> object:
    from whisper_normalizer.english import EnglishSpellingNormalizer

    return oracle.EnglishTextNormalizer(EnglishSpellingNormalizer().mapping)


SENTENCES = [
    "Mr. O'Brien won't pay $20 million, he'd said; it's 10% of the total.",
    "just cause and effect, 'cause I dunno, kinda sorta",
    "[noise] Hmm, uh (laughs) twenty-one oh five o'clock",
    "The colour of the theatre's aluminium catalogue",
    "one hundred and one and a half thousand, double seven, triple oh, 3.5 million",
    "£5 and ¢7, $2 and ¢7, €0.99",
    "",
    "...",
    "Ça va, naïve Straße, Þórr, ﬁne",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_english_is_the_authors(authors_english, text: str) -> None:
    assert normaliser("english")(text) == " ".join(authors_english(text).split())


@pytest.mark.parametrize("text", [*SENTENCES, " 今天，天气 很好。", "नमस्ते दुनिया", "Der „Käse“ – ÜBER"])
def test_basic_is_the_authors(text: str) -> None:
    assert normaliser("basic")(text) == " ".join(oracle.BasicTextNormalizer()(text).split())


def test_real_references(authors_english, references: list[str]) -> None:
    english, basic, authors_basic = normaliser("english"), normaliser("basic"), oracle.BasicTextNormalizer()
    for text in references:
        assert english(text) == " ".join(authors_english(text).split())
        assert basic(text) == " ".join(authors_basic(text).split())


def test_random_numbers(authors_english) -> None:
    words = sorted(authors_english.standardize_numbers.words)
    words += ["5", "10", "1/2", "3.5", "$4", "£", "%", "and", "a", "half", "it's", "1,000", "007", "one's", "'", "2nd"]
    random_ = random.Random(0)
    english = normaliser("english")
    for _ in range(2000):
        text = " ".join(random_.choices(words, k=random_.randint(1, 7)))
        assert english(text) == " ".join(authors_english(text).split()), text


def test_the_package_alone_is_not_the_authors(authors_english) -> None:
    """Why four rules are taken out: without that, a published error rate could not be compared."""
    from whisper_normalizer.english import EnglishTextNormalizer

    assert EnglishTextNormalizer()("the cause") != authors_english("the cause") == normaliser("english")("the cause")


def test_none_only_tidies_space() -> None:
    assert normaliser("none")("  A,  b\n") == "A, b"


def test_names() -> None:
    assert [normaliser_for(name) for name in ("en", "English", "en-GB", "de", None, "zh+en")] == [
        "english", "english", "english", "basic", "basic", "basic"
    ]  # fmt: skip
    assert [unit_for(name) for name in ("en", "ko", "ja", "Thai", None, "zh+en")] == [
        "word", "word", "character", "character", "word", "word"
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="english, basic, none, got 'fancy'"):
        normaliser("fancy")


def test_characters_are_the_authors_split_letters() -> None:
    split = oracle.BasicTextNormalizer(split_letters=True)
    for text in ("今天，天气 很好。", "こんにちは world", "abc d"):
        assert characters(normaliser("basic")(text)) == split(text).split()
    assert characters("é a") == ["é", "a"]


def test_simple_word() -> None:
    assert [simple_word(word) for word in ("Don't,", " “1,000”", "—", "ﬁne", "STRASSE")] == [
        "dont", "1000", "", "fine", "strasse"
    ]  # fmt: skip


def test_units_are_those_of_the_language() -> None:
    assert scored_units("Mr. Smith's twenty", "en") == ["mister", "smith", "is", "20"]
    assert scored_units("我们，去 公园。", "zh") == ["我", "们", "去", "公", "园"]
    assert scored_units("Guten Tag", "de") == ["guten", "tag"]


def test_what_several_languages_count() -> None:
    assert unit_for_all(["zh", "ja", "zh"]) == "character"
    assert (
        unit_for_all(["zh", "de"]) == unit_for_all(["zh", None]) == unit_for_all(["en"]) == unit_for_all([]) == "word"
    )
