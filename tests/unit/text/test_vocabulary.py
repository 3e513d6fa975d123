"""Special token ids equal those of the tokenizer files and of transformers."""

import json
from pathlib import Path

import pytest

from whisperstill.errors import CheckpointError, SettingsError
from whisperstill.text.languages import LANGUAGES, language_code
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import TIMESTAMP_TOKENS

SIZES = (51864, 51865, 51866)


def test_languages_and_their_order_equal_transformers() -> None:
    oracle = pytest.importorskip("transformers.models.whisper.tokenization_whisper")
    assert list(LANGUAGES.items()) == list(oracle.LANGUAGES.items())
    for name, code in oracle.TO_LANGUAGE_CODE.items():
        assert language_code(name) == code


def test_english_ids_equal_the_tokenizer_file(tiny_en_dir: Path) -> None:
    check_against_file(Vocabulary.from_size(51864), tiny_en_dir / "tokenizer.json")


def test_multilingual_ids_equal_the_tokenizer_file(base_tokenizer: Path) -> None:
    check_against_file(Vocabulary.from_size(51865), base_tokenizer)


def check_against_file(vocabulary: Vocabulary, path: Path) -> None:
    ids = {token["content"]: token["id"] for token in json.loads(path.read_bytes())["added_tokens"]}
    assert vocabulary.end_of_text == ids["<|endoftext|>"]
    assert vocabulary.start_of_transcript == ids["<|startoftranscript|>"]
    assert vocabulary.translate == ids["<|translate|>"]
    assert vocabulary.transcribe == ids["<|transcribe|>"]
    assert vocabulary.start_of_lm == ids["<|startoflm|>"]
    assert vocabulary.start_of_previous == ids["<|startofprev|>"]
    assert vocabulary.no_speech == ids.get("<|nospeech|>", ids.get("<|nocaptions|>"))
    assert vocabulary.no_timestamps == ids["<|notimestamps|>"]
    assert vocabulary.timestamp_begin == ids["<|notimestamps|>"] + 1
    by_id = {token: name for name, token in ids.items()}
    named = [by_id[token] for token in range(vocabulary.start_of_transcript + 1, vocabulary.translate)]
    renamed = ["<|he|>" if name == "<|iw|>" else name for name in named]  # Hebrew in the oldest tokenizers
    assert [f"<|{code}|>" for code in vocabulary.language_codes] == renamed
    assert [(code, token) for code, token in vocabulary.languages.items() if ids[f"<|{code}|>"] != token] == []


@pytest.mark.parametrize("size", SIZES)
def test_timestamps_fill_the_vocabulary(size: int) -> None:
    vocabulary = Vocabulary.from_size(size)
    assert vocabulary.timestamp_begin + TIMESTAMP_TOKENS == size
    assert vocabulary.timestamp_seconds(size - 1) == 30.0
    assert vocabulary.timestamp_token(30.0) == size - 1
    assert vocabulary.timestamp_token(0.0) == vocabulary.timestamp_begin
    for token in range(vocabulary.timestamp_begin, size):
        assert vocabulary.timestamp_token(vocabulary.timestamp_seconds(token)) == token
    assert not vocabulary.is_timestamp(vocabulary.no_timestamps)
    with pytest.raises(ValueError, match="expected a timestamp token"):
        vocabulary.timestamp_seconds(vocabulary.no_timestamps)
    with pytest.raises(ValueError, match="0 to 30 s"):
        vocabulary.timestamp_token(30.02)


def test_known_ids() -> None:
    assert Vocabulary.from_size(51864).sot_sequence(None) == (50257, 50362)
    assert Vocabulary.from_size(51864).sot_sequence("en", timestamps=True) == (50257,)
    assert Vocabulary.from_size(51865).sot_sequence("en") == (50258, 50259, 50359, 50363)
    assert Vocabulary.from_size(51865).sot_sequence("German", "translate", timestamps=True) == (50258, 50261, 50358)
    assert Vocabulary.from_size(51866).sot_sequence("yue") == (50258, 50358, 50360, 50364)
    assert Vocabulary.from_size(51866).languages["yue"] == 50358
    assert len(Vocabulary.from_size(51865).languages) == 99
    assert len(Vocabulary.from_size(51866).languages) == 100
    assert Vocabulary.from_size(51864).languages == {}


@pytest.mark.parametrize("name", ["de", "DE", "de-AT", "de_CH", "German", " german "])
def test_language_names(name: str) -> None:
    assert language_code(name) == "de"


def test_invalid_requests_are_errors() -> None:
    with pytest.raises(CheckpointError, match="got 51867"):
        Vocabulary.from_size(51867)
    with pytest.raises(SettingsError, match="Klingon"):
        Vocabulary.from_size(51865).sot_sequence("Klingon")
    with pytest.raises(SettingsError, match="no language 'yue'"):
        Vocabulary.from_size(51865).sot_sequence("yue")
    with pytest.raises(SettingsError, match="expected a language"):
        Vocabulary.from_size(51865).sot_sequence(None)
    with pytest.raises(SettingsError, match="only English"):
        Vocabulary.from_size(51864).sot_sequence("de")
    with pytest.raises(SettingsError, match="only English"):
        Vocabulary.from_size(51864).sot_sequence("en", task="translate")
    with pytest.raises(SettingsError, match="summarise"):
        Vocabulary.from_size(51865).sot_sequence("en", task="summarise")
