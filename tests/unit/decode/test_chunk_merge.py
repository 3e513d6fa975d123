"""Merging chunks of a recording whose words are known, after distorting each chunk."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from whisperstill.decode.longform import chunk_merge, chunk_overlap
from whisperstill.decode.longform.chunk_merge import (
    ChunkMerger,
    MergePoint,
    find_merge_point,
    merge_without_match,
)
from whisperstill.decode.output.transcript import Word
from whisperstill.text.normalizers import normalize_word

FEW = "no very the the and and said he she it a of of to to".split()
CHARACTERS = "的一是不了人我在有他这中大来上国"


def timed(text: str, start: float, step: float = 0.4, probability: float = 0.9) -> list[Word]:
    """Words of one length, one after the other."""
    return [
        Word(start + step * i, start + step * (i + 1), f" {word}", probability) for i, word in enumerate(text.split())
    ]


def text_of(words: Sequence[Word]) -> str:
    """Their text, without case and punctuation."""
    return " ".join(normalize_word(word.word) for word in words)


def joined(left: Sequence[Word], right: Sequence[Word], point: MergePoint | None) -> str:
    assert point is not None
    return text_of([*left[: point.left_end], *right[point.right_start :]])


def spoken(chance: random.Random, seconds: float, unspaced: bool = False) -> list[Word]:
    """Words of a recording: frequent words, rare words, repetitions, pauses."""
    words: list[Word] = []
    now = chance.random()
    while now < seconds - 3:
        if unspaced:
            texts = [chance.choice(CHARACTERS)]
        else:
            text = chance.choice(FEW) if chance.random() < 0.5 else "".join(chance.choices("bdgklmnprst", k=6))
            texts = [text] * (chance.choice((2, 3)) if chance.random() < 0.08 else 1)
        for text in texts:
            length = chance.uniform(0.15, 0.3) if unspaced else chance.uniform(0.2, 0.5)
            words.append(Word(now, now + length, text if unspaced else f" {text}", 1.0))
            now += length + chance.uniform(0, 0.05)
        if chance.random() < 0.08:
            now += chance.uniform(0.3, 6)
    return [word for word in words if word.end < seconds]


def chunked(seconds: float, length: float) -> list[tuple[float, float]]:
    """Begin and end of chunks that share a third of their length."""
    begins = [0.0]
    while begins[-1] + length < seconds:
        begins.append(begins[-1] + 2 * length / 3)
    return [(begin, min(seconds, begin + length)) for begin in begins]


def distort(
    truth: Sequence[Word], begin: float, end: float, seconds: float, chance: random.Random, blur: float = 0.12
) -> list[Word]:
    """The words of a chunk: shifted in time, in another case, and at its edges cut, lost, wrong or invented."""
    chunk_words: list[Word] = []
    for word in truth:
        if word.end <= begin or word.start >= end:
            continue
        cut = word.start < begin or word.end > end
        ragged = cut or (begin > 0 and word.start < begin + 3 * blur) or (end < seconds and word.end > end - 3 * blur)
        fate = chance.random() if ragged else 1.0
        if fate < 0.35 or (cut and fate < 0.5):
            continue
        text = chance.choice((word.word, word.word.title(), f"{word.word},", f"{word.word}."))
        if fate < 0.6:
            text = " " + "".join(chance.choices("xyz", k=4)) if text.startswith(" ") else chance.choice("xyz")
        start, stop = (time + chance.uniform(-blur, blur) for time in (word.start, word.end))
        start = max(begin, min(start, end - 0.02))
        if chunk_words:
            start = max(start, chunk_words[-1].start)
        probability = chance.uniform(0.2, 0.7) if ragged else chance.uniform(0.6, 1.0)
        chunk_words.append(Word(start, min(end, max(stop, start + 0.02)), text, probability))
    if end < seconds and chance.random() < 0.3 and (not chunk_words or chunk_words[-1].end < end - 0.05):
        start = max(end - 0.3, chunk_words[-1].end if chunk_words else 0.0)
        chunk_words.append(Word(start, end, " zzyzx", chance.uniform(0.1, 0.6)))
    return chunk_words


def merge(
    chunks: Sequence[tuple[list[Word], float, float]], language: str = "en"
) -> tuple[list[Word], list[MergePoint]]:
    merger = ChunkMerger(language)
    words = [word for chunk_words, begin, end in chunks for word in merger.add_chunk(chunk_words, begin, end)]
    return words + merger.finish(), merger.merge_points


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((15.0, 30.0)))
def test_merged_words_are_those_of_the_recording(seed: int, length: float) -> None:
    chance = random.Random(seed)
    truth, seconds = spoken(chance, 100.0), 100.0
    chunks = [(distort(truth, begin, end, seconds, chance), begin, end) for begin, end in chunked(seconds, length)]
    words, points = merge(chunks)
    assert len(points) == len(chunks) - 1
    if all(point.matched for point in points):  # otherwise a centred chunk is requested
        assert text_of(words) == text_of(truth)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_merged_characters_are_those_of_the_recording(seed: int) -> None:
    chance = random.Random(seed)
    truth, seconds = spoken(chance, 60.0, unspaced=True), 60.0
    chunks = [(distort(truth, begin, end, seconds, chance, 0.06), begin, end) for begin, end in chunked(seconds, 30.0)]
    words, points = merge(chunks, "zh")
    if all(point.matched for point in points):  # two or three characters in an overlap can be too few
        assert text_of(words) == text_of(truth)


def wrong(recordings: int = 12) -> int:
    """Number of recordings with wrong words after merging."""
    count = 0
    for seed in range(recordings):
        chance = random.Random(seed)
        truth, seconds = spoken(chance, 100.0), 100.0
        chunks = [(distort(truth, begin, end, seconds, chance), begin, end) for begin, end in chunked(seconds, 15.0)]
        count += text_of(merge(chunks)[0]) != text_of(truth)
    return count


def always_merge_without_match(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint:
    return merge_without_match(left, right, begin, end)


def always_merge_by_position(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint:
    overlap = chunk_overlap.ChunkOverlap(left, right, begin, end)
    cut = chunk_merge._cut_by_position(overlap)
    return MergePoint(*cut, overlap.cut_time(cut))


@pytest.mark.parametrize("other", [always_merge_without_match, always_merge_by_position])
def test_merging_without_matching_words_fails(
    other: Callable[..., MergePoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong() == 0
    monkeypatch.setattr(chunk_merge, "find_merge_point", other)
    assert wrong() > 3


def test_the_same_word_at_another_time_is_another_word(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = timed("oh no", 9.8), timed("no more", 13.9)
    assert joined(left, right, find_merge_point(left, right, 10.0, 15.0, "en")) == "oh no no more"
    monkeypatch.setattr(chunk_merge, "HALF_SCORE_GAP_S", 1e9)
    monkeypatch.setattr(chunk_merge, "MAX_SAME_WORD_GAP_S", 1e9)
    monkeypatch.setattr(chunk_overlap, "MIN_SHARED_PAUSE_S", 1e9)
    monkeypatch.setattr(chunk_overlap, "MIN_UNMATCHED_GAP_S", 1e9)
    assert joined(left, right, find_merge_point(left, right, 10.0, 15.0, "en")) == "oh no more"


def best_sum(credit: Sequence[Sequence[float]], i: int, j: int, adjacent: bool) -> float:
    """The slow twin: the best of all alignments of the rest."""
    if i == len(credit) or j == len(credit[0]):
        return 0.0
    best = max(best_sum(credit, i + 1, j, False), best_sum(credit, i, j + 1, False))
    if credit[i][j] > 0:
        best = max(
            best, credit[i][j] + chunk_merge.CONSECUTIVE_PAIR_BONUS * adjacent + best_sum(credit, i + 1, j + 1, True)
        )
    return best


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_alignment_has_the_largest_score(seed: int) -> None:
    chance = random.Random(seed)
    sides = [
        [replace(word, start=word.start + chance.random()) for word in timed(" ".join(chance.choices("ab", k=k)), 10.2)]
        for k in (chance.randint(1, 5), chance.randint(1, 5))
    ]
    pairs = chunk_merge._match_words(chunk_overlap.ChunkOverlap(*sides, 10.0, 15.0))
    runs = sum(i + 1 == k and j + 1 == m for (i, j, _), (k, m, _) in pairwise(pairs))
    credit = [[chunk_merge._match_score(left_word, right_word) for right_word in sides[1]] for left_word in sides[0]]
    assert sum(pair[2] for pair in pairs) + chunk_merge.CONSECUTIVE_PAIR_BONUS * runs == pytest.approx(
        best_sum(credit, 0, 0, False)
    )
    assert [pair[0] for pair in pairs] == sorted({pair[0] for pair in pairs})
    assert [pair[1] for pair in pairs] == sorted({pair[1] for pair in pairs})


def test_the_cut_is_in_the_middle_of_matching_words() -> None:
    text = "a bee sees the deer eat all of its green leaves today"
    left, right = timed(text, 10.1), timed(text, 10.1)
    point = find_merge_point(left, right, 10.0, 15.0, "en")
    assert joined(left, right, point) == text
    assert point is not None and point.left_end == point.right_start == 6
    assert point.time == pytest.approx(12.5)


def test_a_pause_near_the_middle_is_preferred() -> None:
    first, second = "a bee sees the deer", "eat all of its green leaves today"
    left = right = [*timed(first, 10.1), *timed(second, 12.4)]
    point = find_merge_point(left, right, 10.0, 15.5, "en")
    assert point is not None and point.left_end == point.right_start == 5


def test_numbers_names_and_case_may_differ() -> None:
    left = timed("so he had twenty five good Friends, in", 10.1)
    right = [
        Word(10.0, 10.3, " and", 0.3),
        *timed("he had", 10.5),
        Word(11.3, 12.1, " 25", 0.9),
        *timed("Good. freinds in all of it", 12.1),
    ]
    assert joined(left, right, find_merge_point(left, right, 10.0, 13.4, "en")) in {
        "so he had twenty five good friends in all of it",
        "so he had twenty five good freinds in all of it",
        "so he had 25 good freinds in all of it",
    }


@pytest.mark.parametrize("repeated", ["no no no", "very very", "that that that that"])
def test_repeated_words_are_neither_doubled_nor_lost(repeated: str) -> None:
    text = f"he said {repeated} and then he left"
    left = [word for word in timed(text, 10.1, 0.3) if word.end < 12.5]
    right = [replace(word, start=word.start + 0.1, end=word.end + 0.1) for word in timed(text, 10.1, 0.3)][2:]
    assert joined(left, right, find_merge_point(left, right, 10.0, 12.5, "en")) == text


def test_silence_is_cut_in_the_middle() -> None:
    left, right = timed("this is the end", 8.0), timed("of the beginning", 16.0)
    point = find_merge_point(left, right, 10.0, 15.0, "en")
    assert point == MergePoint(4, 0, point.time if point else 0.0)
    assert point is not None and point.time == pytest.approx(12.8, abs=0.5)
    assert find_merge_point([], [], 10.0, 15.0, "en") == MergePoint(0, 0, 12.5)


def test_unmatched_words_are_kept_away_from_the_edge_of_their_chunk() -> None:
    early = timed("well now", 10.3, probability=0.6)
    assert joined(early, [], find_merge_point(early, [], 10.0, 15.0, "en")) == "well now"
    assert (
        joined([], early, find_merge_point([], early, 10.0, 15.0, "en")) == "well now"
    )  # first words are seldom hallucinated
    late = timed("thank you", 14.55, 0.2, probability=0.6)
    assert joined([], late, find_merge_point([], late, 10.0, 15.0, "en")) == "thank you"
    assert joined(late, [], find_merge_point(late, [], 10.0, 15.0, "en")) == ""  # last words are
    assert joined(late, [], always_merge_by_position(late, [], 10.0, 15.0, "en")) == ""


def test_words_one_chunk_skipped_are_taken_from_the_other() -> None:
    text = "a bee sees the deer eat all of its green leaves today"
    words = timed(text, 10.1)
    assert joined(words, words[:3], find_merge_point(words, words[:3], 10.0, 15.0, "en")) == text
    assert joined(words[:3], words, find_merge_point(words[:3], words, 10.0, 15.0, "en")) == text
    assert (
        find_merge_point(words[:3], words[7:], 10.0, 15.0, "en") is None
    )  # both skipped words: a centred chunk is needed


def test_merge_without_match_handles_loops_and_skips() -> None:
    loop, speech = timed("on and on and on and on and", 10.0), timed("she went home at ten that day", 10.0)
    assert joined(loop, speech, merge_without_match(loop, speech, 10.0, 14.0)) == text_of(speech)
    assert joined(speech, loop, merge_without_match(speech, loop, 10.0, 14.0)) == text_of(speech)
    sparse = timed("he said", 10.0, 1.5)
    assert joined(sparse, speech, merge_without_match(sparse, speech, 10.0, 14.0)) == f"he said {text_of(speech)}"


def test_without_a_match_a_centred_chunk_helps() -> None:
    text = "then one day the fox came home and saw that all the hens had gone to sea in a boat"
    truth = timed(text, 5.0)
    left = [*truth[:12], *timed("xx yy zz vv", 9.8)]
    right = [*timed("qq rr ss", 10.0), *truth[16:]]
    assert find_merge_point(left, right, 9.6, 11.4, "en") is not None  # an overlap this short is all edge
    left = [*truth[:12], *timed("xx yy zz vv ww", 9.8)]
    assert find_merge_point(left, right, 9.0, 12.0, "en") is None
    merger = ChunkMerger("en")
    first = merger.add_chunk(left, 4.0, 12.0)
    assert merger.can_merge(truth[6:19], 7.4)
    assert not merger.can_merge(right, 9.0)
    second = merger.add_chunk(truth[6:19], 7.4, 12.6)
    third = merger.add_chunk(right, 10.0, 16.0)
    assert text_of([*first, *second, *third, *merger.finish()]) == text
    assert [point.matched for point in merger.merge_points] == [True, True]


def test_without_a_centred_chunk_the_merge_point_is_marked_unmatched() -> None:
    left, right = timed("a b c d e f g h i j k l m", 10.0), timed("n o p q r s t u v w x y z", 10.0)
    words, points = merge([(left, 0.0, 15.0), (right, 10.0, 25.0)])
    assert points == [MergePoint(6, 6, 12.5, matched=False)]
    assert text_of(words) == "a b c d e f t u v w x y z"


def test_the_merger_holds_the_last_chunk_only() -> None:
    merger = ChunkMerger("en")
    num_words = 0
    for number in range(200):
        words = timed(" ".join(f"w{number * 25 + i}" for i in range(37)), number * 10.0)
        num_words += len(merger.add_chunk(words, number * 10.0, number * 10.0 + 15))
        assert len(merger._pending_words) <= len(words)
    assert num_words + len(merger.finish()) == 199 * 25 + 37
    assert merger.finish() == []


def test_chunks_without_overlap_are_concatenated() -> None:
    words, points = merge([(timed("a b", 1.0), 0.0, 15.0), (timed("b c", 15.0), 15.0, 30.0)])
    assert text_of(words) == "a b b c"
    assert points[0].matched


def test_words_before_a_merge_point_are_not_repeated() -> None:
    """A third chunk begins before the merge point of the first two; its unmatched words there are dropped."""
    words = timed("a b c d e f g h i j k l m n o p q r s t", 0.0)
    merger, merged = ChunkMerger("en"), []
    merged += merger.add_chunk(words[:12], 0.0, 4.8)
    merged += merger.add_chunk(words[8:16], 3.2, 6.4)  # the merge point is near 4 s
    third = [replace(word, word=f" {word.word[1]}x", probability=1.0) for word in words[2:8]] + words[8:]
    assert merger.can_merge(third, 0.8)
    merged += merger.add_chunk(third, 0.8, 8.0)
    assert text_of([*merged, *merger.finish()]) == text_of(words)


def test_the_required_score_depends_on_words_within_the_overlap() -> None:
    """Words beyond it are compared as well, and not counted."""
    words = timed("one two three four five six seven eight nine ten eleven twelve", 0.0)
    point = find_merge_point(words[:7], words[6:], 2.3, 2.9, "en")
    assert point is not None and joined(words[:7], words[6:], point) == text_of(words)
