"""Tokens compared with the tokenizers library, words compared with transformers."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings, strategies as st

from whisperstill.errors import CheckpointError, NotFoundError
from whisperstill.text.tokenizer import Tokenizer

MIXED = [
    " Hello, world.",
    " ¿Qué pasó? Nothing – naïve café…",
    " 今天天气很好，我们去公园吧。",
    " こんにちは、世界。",
    " สวัสดีครับ",
    " Straße 🤦🏽‍♀️ and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "\n two  spaces\tand a tab",
    "",
]


@pytest.fixture(scope="module")
def base(base_tokenizer: Path) -> Tokenizer:
    return Tokenizer.from_file(base_tokenizer, 51865)


@pytest.fixture(scope="module")
def oracle(base_tokenizer: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(base_tokenizer))


@pytest.mark.parametrize("text", MIXED)
def test_encode_and_decode_equal_the_library(base: Tokenizer, oracle: tokenizers.Tokenizer, text: str) -> None:
    ids = base.encode(text)
    assert ids == oracle.encode(text, add_special_tokens=False).ids
    assert base.decode(ids) == oracle.decode(ids) == text


def test_real_references_round_trip(base: Tokenizer, oracle: tokenizers.Tokenizer, references: list[str]) -> None:
    for text in references[::7]:
        ids = base.encode(" " + text)
        assert ids == oracle.encode(" " + text, add_special_tokens=False).ids
        assert base.decode(ids) == " " + text


def test_text_is_never_encoded_as_special_tokens(base: Tokenizer, oracle: tokenizers.Tokenizer) -> None:
    text = " say <|endoftext|> or <|en|> or <|0.00|>"
    assert [token for token in base.encode(text) if not base.vocabulary.is_text(token)] == []
    assert base.decode(base.encode(text)) == text
    assert base.vocabulary.end_of_text in oracle.encode(text, add_special_tokens=False).ids  # unlike the library


def test_special_tokens_are_dropped(base: Tokenizer) -> None:
    vocabulary = base.vocabulary
    ids = [*vocabulary.sot_sequence("en", timestamps=True), vocabulary.timestamp_token(0.0), *base.encode(" One two.")]
    ids += [vocabulary.timestamp_token(1.2), vocabulary.end_of_text]
    assert base.decode(ids) == " One two."


def test_an_incomplete_character_is_replaced(base: Tokenizer) -> None:
    ids = base.encode("🤦")
    assert len(ids) > 1
    assert base.decode(ids[:-1]) == "�"
    assert [word.text for word in base.split_to_word_tokens(ids[:-1], "en")] == ["�"]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (" Hello, world.", "en", [" Hello,", " world."]),
        (' He said: "It\'s 10:30 in the U.S. (I think)."', "en", None),
        (" ¿Qué pasó?", "es", [" ¿Qué", " pasó?"]),
        (" ...", "en", [" ..."]),
        (" 今天天气很好，我们去公园吧。", "zh", None),
        ("", "en", []),
    ],
    ids=["spaces", "punctuation and numbers", "inverted question mark", "dots", "Chinese", "empty"],
)
def test_words(base: Tokenizer, text: str, language: str, expected: list[str] | None) -> None:
    ids = base.encode(text)
    words = base.split_to_word_tokens(ids, language)
    assert "".join(word.text for word in words) == text
    if expected is not None:
        assert [word.text for word in words] == expected
    elif language == "en":
        assert [word.text.strip() for word in words] == text.split()
    else:
        assert len(words) > 6
        assert [word.text[-1] for word in words if not word.text.strip()[-1].isalnum()] == ["，", "。"]
        assert [word for word in words if not any(c.isalnum() for c in word.text)] == []


def test_punctuation_is_merged_into_words(base: Tokenizer) -> None:
    ids = base.encode(' Wait — " now " , he (she) said . . .')
    assert [word.text for word in base.split_to_word_tokens(ids, "en")] == [
        " Wait —",
        ' " now',
        ' " , he',
        " (she)",
        " said . . .",
    ]


def test_timestamps_belong_to_no_word(base: Tokenizer) -> None:
    vocabulary = base.vocabulary
    hello, there = base.encode(" Hello"), base.encode(" there")
    ids = [vocabulary.timestamp_token(0), *hello, vocabulary.timestamp_token(1), vocabulary.timestamp_token(1), *there]
    words = base.split_to_word_tokens(ids, "en")
    assert [word.text for word in words] == [" Hello", " there"]
    assert [ids[word.token_start : word.token_end] for word in words] == [hello, there]


def test_words_of_real_references_equal_split(base: Tokenizer, references: list[str]) -> None:
    for text in references[::5]:
        if any("぀" <= c for c in text):  # east Asian
            continue
        mine = [word.text.strip() for word in base.split_to_word_tokens(base.encode(" " + text), "en")]
        spoken = [word for word in text.split() if any(c.isalnum() for c in word)]
        assert [word for word in " ".join(mine).split() if any(c.isalnum() for c in word)] == spoken
        assert len(mine) == len(spoken)


def test_characters_are_grouped_as_in_transformers(base: Tokenizer, base_tokenizer: Path) -> None:
    """Unspaced languages: the groups of openai/whisper, before punctuation is merged."""
    module = pytest.importorskip("transformers.models.whisper.tokenization_whisper")

    class Oracle:
        def decode(self, ids: list[int], decode_with_timestamps: bool = False) -> str:
            return base.decode(ids)

    for text in (" 今天天气很好我们去公园吧", " สวัสดีครับ", "こんにちは世界"):
        ids = base.encode(text)
        groups = module._split_tokens_on_unicode(Oracle(), ids)[1]
        mine = list(base._whole_characters(ids, range(len(ids))))
        assert [ids[unit.token_start : unit.token_end] for unit in mine] == groups


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40), language=st.sampled_from(["en", "zh", None]))
@example(text='"', language="en")
@example(text=" ( a ) - b", language="en")
def test_words_cover_all_tokens(base_tokenizer: Path, text: str, language: str | None) -> None:
    tokenizer = cached(base_tokenizer)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    words = tokenizer.split_to_word_tokens(ids, language)
    assert "".join(word.text for word in words) == text
    assert [word.token_start for word in words] == [0, *(word.token_end for word in words)][: len(words)]
    assert (words[-1].token_end if words else 0) == len(ids)
    assert [word for word in words if tokenizer.decode(ids[word.token_start : word.token_end]) != word.text] == []
    if any(c.isalnum() for c in text):
        assert [word for word in words if not any(c.isalnum() for c in word.text)] == []


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 51864), max_size=12))
def test_any_ids_can_be_decoded_and_grouped(base_tokenizer: Path, ids: list[int]) -> None:
    tokenizer = cached(base_tokenizer)
    words = tokenizer.split_to_word_tokens(ids, "en")
    covered = {index for word in words for index in range(word.token_start, word.token_end)}
    assert covered == {index for index, token in enumerate(ids) if tokenizer.vocabulary.is_text(token)}
    tokenizer.decode(ids)


_CACHE: dict[Path, Tokenizer] = {}


def cached(path: Path) -> Tokenizer:
    if path not in _CACHE:
        _CACHE[path] = Tokenizer.from_file(path, 51865)
    return _CACHE[path]


def test_errors_state_the_cause(tmp_path: Path, base_tokenizer: Path, tiny_en_dir: Path) -> None:
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", 51865)
    with pytest.raises(CheckpointError, match="readable"):
        Tokenizer.from_bytes(b"{", 51865)
    with pytest.raises(CheckpointError, match="readable"):
        Tokenizer.from_bytes(json.dumps({"model": {"vocab": {}}}).encode(), 51865)
    with pytest.raises(CheckpointError, match=r"<\|endoftext\|> to be token 50257"):
        Tokenizer.from_file(tiny_en_dir / "tokenizer.json", 51865)
    with pytest.raises(CheckpointError, match=r"<\|transcribe\|> to be token 50360"):
        Tokenizer.from_file(base_tokenizer, 51866)
    assert Tokenizer.from_file(tiny_en_dir / "tokenizer.json", 51864).decode([31373]) == "hello"
