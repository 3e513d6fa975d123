"""Assigning words to utterances: properties, robustness on real references, negative controls."""

import json
import random
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from whisperstill.label.utterance_alignment import split_hypothesis, split_without_reference
from whisperstill.text.edit_distance import count_edits
from whisperstill.text.normalizers import normalize_word

WORD = st.sampled_from(["a", "b", "cat", "the", "Dog", "don't", "21"])
UTTERANCES = st.lists(st.lists(WORD, max_size=6), min_size=1, max_size=5)


def assert_covered(ranges: list[tuple[int, int]], words: int) -> None:
    """Ranges are contiguous and cover all words."""
    edges = [0, *(last for _, last in ranges)]
    assert ranges == list(pairwise(edges))
    assert edges == sorted(edges)
    assert edges[-1] == words


def exact(utterances: list[list[str]]) -> list[tuple[int, int]]:
    return list(pairwise([0, *accumulate(map(len, utterances))]))


@given(UTTERANCES)
def test_a_perfect_hypothesis_is_split_exactly(utterances: list[list[str]]) -> None:
    hypothesis = [f" {word.capitalize()}," for utterance in utterances for word in utterance]
    assert split_hypothesis(hypothesis, [" ".join(utterance) for utterance in utterances]) == exact(utterances)


@settings(max_examples=200)
@given(st.lists(st.text(max_size=6), max_size=20), st.lists(st.text(max_size=15), min_size=1, max_size=4))
def test_all_words_are_covered(words: list[str], references: list[str]) -> None:
    assert_covered(split_hypothesis(words, references), len(words))
    assert_covered(split_hypothesis(words, references, by_character=True), len(words))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), max_size=7),
    st.lists(st.lists(st.sampled_from("abcd"), max_size=4), min_size=2, max_size=3),
)
def test_no_other_split_has_fewer_edits(words: list[str], references: list[list[str]]) -> None:
    """Compared with all possible splits; words of one letter have substitution costs of 0 or 1."""

    def cost(ranges: list[tuple[int, int]]) -> int:
        return sum(count_edits(r, words[a:b]).errors for r, (a, b) in zip(references, ranges, strict=True))

    def cuts(parts: int, start: int) -> list[list[int]]:
        if parts == 1:
            return [[len(words)]]
        return [[cut, *rest] for cut in range(start, len(words) + 1) for rest in cuts(parts - 1, cut)]

    best = min(cost(list(pairwise([0, *split]))) for split in cuts(len(references), 0))
    assert cost(split_hypothesis(words, [" ".join(r) for r in references])) == best


@pytest.mark.parametrize(
    ("hypothesis", "references", "expected"),
    [
        ("", ["a b", "c"], ["", ""]),
        ("Hello there. Good day.", ["hello there", "good day"], ["Hello there.", "Good day."]),
        ("He is 21. Next one.", ["he is twenty one", "next one"], ["He is 21.", "Next one."]),
        ("Do not go. Next.", ["don't go", "next"], ["Do not go.", "Next."]),
        ("we plenty of time now", ["we have", "plenty of", "time now"], ["we", "plenty of", "time now"]),
        ("one two five six", ["one two", "three four", "five six"], ["one two", "", "five six"]),
        ("five six", ["one two", "five six"], ["", "five six"]),
        ("one two", ["one two", "five six"], ["one two", ""]),
        ("one to. Uh three", ["one two", "three"], ["one to.", "Uh three"]),
        ("one two uh three", ["one two", "three"], ["one two uh", "three"]),
        ("a b. Thanks. Thanks. Thanks. c d", ["a b", "c d"], ["a b. Thanks. Thanks. Thanks.", "c d"]),
        ("x. a b c. a b c. y", ["x", "a b c", "y"], ["x.", "a b c. a b c.", "y"]),
        ("the grey cat sat", ["the gray", "cat sat"], ["the grey", "cat sat"]),
        ("so so so so so", ["other words", "here"], None),
        ("a b", ["", "a b", ""], ["", "a b", ""]),
    ],
    ids=lambda value: " | ".join(value) if isinstance(value, list) else value,
)
def test_a_hypothesis_is_split_as_the_references_are(
    hypothesis: str, references: list[str], expected: list[str] | None
) -> None:
    words = hypothesis.split()
    ranges = split_hypothesis(words, references)
    assert_covered(ranges, len(words))
    if expected is not None:
        assert [" ".join(words[first:last]) for first, last in ranges] == expected


def test_unspaced_languages() -> None:
    words = [" 今天", "天", "气", "很好，", "我们", "去", "公园。"]
    assert split_hypothesis(words, ["今天天气很好", "我们去公园"], by_character=True) == [(0, 4), (4, 7)]
    assert split_hypothesis(words, ["今天天气真好", "我们 去 公元"], by_character=True) == [(0, 4), (4, 7)]
    assert split_hypothesis(["一二", "三四"], ["一二三", "四"], by_character=True) in (
        [(0, 1), (1, 2)],
        [(0, 2), (2, 2)],
    )


def test_no_utterance_has_no_range() -> None:
    assert split_hypothesis(["a"], []) == []
    assert split_without_reference(1, []) == []


@pytest.fixture(scope="module")
def windows(speech: Path) -> list[list[str]]:
    """Windows of three to four consecutive real references."""
    lines = (speech / "librispeech-mini-val" / "manifest.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [texts[first : first + 3 + first % 2] for first in range(0, len(texts) - 4, 4)]


def corrupt(random_: random.Random, words: list[str]) -> list[str]:
    """Replace one word in eight by another one, drop it, or double it."""
    hypothesis: list[str] = []
    for word in words:
        if random_.random() > 1 / 8:
            hypothesis.append(word)
            continue
        hypothesis += random_.choice([[random_.choice(words)], [], [word, random_.choice(words)]])
    return hypothesis


def boundary_errors(
    windows: list[list[str]], split: Callable[[list[str], list[str]], list[tuple[int, int]]]
) -> list[int]:
    """Distance of each boundary from the correct one, in words."""
    random_ = random.Random(0)
    away: list[int] = []
    for references in windows:
        parts = [corrupt(random_, reference.split()) for reference in references]
        ranges = split([word for part in parts for word in part], references)
        away += [abs(a - b) for (_, a), (_, b) in zip(ranges[:-1], exact(parts)[:-1], strict=True)]
    return away


def test_word_errors_move_few_boundaries(windows: list[list[str]]) -> None:
    away = boundary_errors(windows, split_hypothesis)
    assert len(away) > 40
    assert sum(distance == 0 for distance in away) / len(away) > 0.85
    assert sum(distance <= 1 for distance in away) / len(away) > 0.97


def test_a_split_by_length_misses_boundaries(windows: list[list[str]]) -> None:
    """Negative control: a split in proportion to reference lengths fails the test above."""

    def blind(words: list[str], references: list[str]) -> list[tuple[int, int]]:
        return split_without_reference(len(words), [float(len(reference)) for reference in references])

    away = boundary_errors(windows, blind)
    assert sum(distance <= 1 for distance in away) / len(away) < 0.9


def test_a_missing_utterance_does_not_move_the_others(windows: list[list[str]]) -> None:
    for references in windows:
        hypothesis = [word for i, reference in enumerate(references) if i != 1 for word in reference.split()]
        ranges = split_hypothesis(hypothesis, references)
        lengths = [0 if i == 1 else len(reference.split()) for i, reference in enumerate(references)]
        away = [abs((b - a) - length) for (a, b), length in zip(ranges, lengths, strict=True)]
        assert max(away) <= 1, references


def test_a_loop_at_the_end_belongs_to_the_last_utterance(windows: list[list[str]]) -> None:
    for references in windows[:8]:
        parts = [reference.split() for reference in references]
        hypothesis = [word for part in parts for word in part]
        ranges = split_hypothesis([*hypothesis, *parts[-1][-3:] * 20], references)
        assert ranges[:-1] == exact(parts)[:-1]


@given(st.integers(0, 40), st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_a_split_by_duration_covers_all_words(words: int, durations: list[float]) -> None:
    assert_covered(split_without_reference(words, durations), words)
    times = [i * sum(durations) / max(1, words) for i in range(words)]
    ranges = split_without_reference(words, durations, times)
    assert_covered(ranges, words)
    ends = list(accumulate(durations))
    for (first, last), start, end in zip(ranges, [0.0, *ends], ends, strict=False):
        assert [i for i in range(first, last) if not start <= times[i]] == []
        assert [i for i in range(first, last) if not (times[i] < end or end == ends[-1])] == []


def test_splits_without_reference() -> None:
    assert split_without_reference(6, [1.0, 2.0]) == [(0, 2), (2, 6)]
    assert split_without_reference(3, [5.0, 5.0], [1.0, 6.0, 7.0]) == [(0, 1), (1, 3)]
    assert split_without_reference(3, [5.0, 5.0], [1.0, 6.0, 4.0]) == [(0, 1), (1, 3)]  # times are made monotone
    assert split_without_reference(0, [5.0, 5.0], []) == [(0, 0), (0, 0)]
    with pytest.raises(ValueError, match="a time for each of 2 words, got 1"):
        split_without_reference(2, [1.0], [0.0])


def test_words_are_normalized_before_alignment() -> None:
    assert normalize_word(" Don’t!") == "dont" == normalize_word("DON'T")
