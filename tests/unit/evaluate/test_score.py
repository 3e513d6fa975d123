"""Corpus-level scores against jiwer."""

import json
import random
from pathlib import Path

import jiwer
import pytest

from whisperstill.errors import SettingsError
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.records import EditCounts
from whisperstill.text.normalizers import get_normalizer


@pytest.fixture(scope="module")
def pairs(speech: Path) -> tuple[list[str], list[str]]:
    """Real references, and hypotheses with random deletions and insertions."""
    lines = (speech / "ljspeech-ood" / "manifest.jsonl").read_text().splitlines()
    references = [json.loads(line)["text"] for line in lines]
    random_ = random.Random(0)
    hypotheses = []
    for text in references:
        words = [word for word in text.split() if random_.random() > 0.1]
        hypotheses.append(" ".join(word + " so" * (random_.random() < 0.05) for word in words))
    return references, hypotheses


def test_corpus_rates_equal_jiwer(pairs: tuple[list[str], list[str]]) -> None:
    result = score(*pairs, Scoring("english"))
    clean = [[get_normalizer("english")(text) for text in side] for side in pairs]
    words, letters = jiwer.process_words(*clean), jiwer.process_characters(*clean)
    assert result.wer == pytest.approx(100 * words.wer)
    assert result.cer == pytest.approx(100 * letters.cer)
    assert result.edits == EditCounts(words.hits, words.substitutions, words.deletions, words.insertions)
    assert result.wer_low < result.wer < result.wer_high
    assert result.cer_low < result.cer < result.cer_high


def test_the_rate_is_not_a_mean_of_rates() -> None:
    result = score(["a", "b c d e f g h i j"], ["x", "b c d e f g h i j"], Scoring("basic"))
    assert result.wer == pytest.approx(10)  # a mean of the two rates would be 50


def test_empty_references_count_as_in_jiwer() -> None:
    references, hypotheses = ["a b", "[noise]", "c"], ["a b", "thank you", "c"]
    result = score(references, hypotheses, Scoring("english"))
    oracle = jiwer.process_words(["a b", "", "c"], hypotheses)
    assert result.wer == pytest.approx(100 * oracle.wer) == pytest.approx(200 / 3)
    assert result.edits.reference_length == 3


def test_perfect_and_empty_hypotheses() -> None:
    assert score(["a b"], ["A, b!"], Scoring("basic")).wer == 0
    empty = score(["a b", "c"], ["", ""], Scoring("basic"))
    assert (empty.wer, empty.wer_low, empty.wer_high, empty.cer) == (100, 100, 100, 100)


def test_languages_without_spaces_are_scored_by_character() -> None:
    result = score(["今天 天气。"], ["今天天汽"], Scoring("basic", unit="character"))
    assert result.edits == EditCounts(3, 1, 0, 0)
    assert result.wer == 25
    assert score(["今天 天气。"], ["今天天汽"], Scoring("basic")).wer == 100  # by word: two, both wrong


def test_intervals_are_deterministic_given_a_seed(pairs: tuple[list[str], list[str]]) -> None:
    first, again, other = (score(*pairs, Scoring("english", seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first.wer == other.wer
    assert first.wer_low != other.wer_low


def test_invalid_input_raises() -> None:
    with pytest.raises(ValueError, match="at least one reference word"):
        score(["[noise]", ""], ["a", "b"], Scoring("english"))
    with pytest.raises(SettingsError, match="normalizer"):
        score(["a"], ["a"], Scoring("german"))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        score(["a"], ["a", "b"], Scoring("basic"))


def test_a_long_recording_is_resampled_in_blocks() -> None:
    """A single recording has an interval of positive width."""
    words = [f"word{index}" for index in range(1000)]
    hypotheses = [word if index % 7 or index > 400 else "other" for index, word in enumerate(words)]
    long = score([" ".join(words)], [" ".join(hypotheses)], Scoring("none"))
    assert long.wer_low < long.wer < long.wer_high
    assert long.edits.errors == 58
    short = score([" ".join(words[:199])], [" ".join(hypotheses[:199])], Scoring("none"))
    assert short.wer_low == short.wer == short.wer_high  # too short for blocks
