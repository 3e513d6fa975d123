"""Both normalizers equal those of transformers."""

import random

import pytest

from whisperstill.errors import SettingsError
from whisperstill.text.normalizers import (
    common_error_rate_unit,
    error_rate_unit,
    get_normalizer,
    normalize_to_units,
    normalize_word,
    normalizer_name_for,
    split_into_characters,
)

oracle = pytest.importorskip("transformers.models.whisper.english_normalizer")


@pytest.fixture(scope="module")
def transformers_english() -> object:
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
def test_english_equals_transformers(transformers_english, text: str) -> None:
    assert get_normalizer("english")(text) == " ".join(transformers_english(text).split())


@pytest.mark.parametrize("text", [*SENTENCES, " 今天，天气 很好。", "नमस्ते दुनिया", "Der „Käse“ – ÜBER"])
def test_basic_equals_transformers(text: str) -> None:
    assert get_normalizer("basic")(text) == " ".join(oracle.BasicTextNormalizer()(text).split())


def test_real_references(transformers_english, references: list[str]) -> None:
    english, basic, authors_basic = get_normalizer("english"), get_normalizer("basic"), oracle.BasicTextNormalizer()
    for text in references:
        assert english(text) == " ".join(transformers_english(text).split())
        assert basic(text) == " ".join(authors_basic(text).split())


def test_random_numbers(transformers_english) -> None:
    words = sorted(transformers_english.standardize_numbers.words)
    words += ["5", "10", "1/2", "3.5", "$4", "£", "%", "and", "a", "half", "it's", "1,000", "007", "one's", "'", "2nd"]
    random_ = random.Random(0)
    english = get_normalizer("english")
    for _ in range(2000):
        text = " ".join(random_.choices(words, k=random_.randint(1, 7)))
        assert english(text) == " ".join(transformers_english(text).split()), text


def test_the_package_alone_differs_from_transformers(transformers_english) -> None:
    """Negative control: the four extra rules change error rates."""
    from whisper_normalizer.english import EnglishTextNormalizer

    assert (
        EnglishTextNormalizer()("the cause")
        != transformers_english("the cause")
        == get_normalizer("english")("the cause")
    )


def test_none_only_collapses_white_space() -> None:
    assert get_normalizer("none")("  A,  b\n") == "A, b"


def test_normalizer_by_language() -> None:
    assert [normalizer_name_for(name) for name in ("en", "English", "en-GB", "de", None, "zh+en")] == [
        "english", "english", "english", "basic", "basic", "basic"
    ]  # fmt: skip
    assert [error_rate_unit(name) for name in ("en", "ko", "ja", "Thai", None, "zh+en")] == [
        "word", "word", "character", "character", "word", "word"
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="english, basic, none, got 'fancy'"):
        get_normalizer("fancy")


def test_characters_equal_split_letters_of_transformers() -> None:
    split = oracle.BasicTextNormalizer(split_letters=True)
    for text in ("今天，天气 很好。", "こんにちは world", "abc d"):
        assert split_into_characters(get_normalizer("basic")(text)) == split(text).split()
    assert split_into_characters("é a") == ["é", "a"]


def test_normalize_word() -> None:
    assert [normalize_word(word) for word in ("Don't,", " “1,000”", "—", "ﬁne", "STRASSE")] == [
        "dont", "1000", "", "fine", "strasse"
    ]  # fmt: skip


def test_units_depend_on_the_language() -> None:
    assert normalize_to_units("Mr. Smith's twenty", "en") == ["mister", "smith", "is", "20"]
    assert normalize_to_units("我们，去 公园。", "zh") == ["我", "们", "去", "公", "园"]
    assert normalize_to_units("Guten Tag", "de") == ["guten", "tag"]


def test_unit_of_several_languages() -> None:
    assert common_error_rate_unit(["zh", "ja", "zh"]) == "character"
    assert (
        common_error_rate_unit(["zh", "de"])
        == common_error_rate_unit(["zh", None])
        == common_error_rate_unit(["en"])
        == common_error_rate_unit([])
        == "word"
    )
