"""Chunks of a recording whose words are known, heard badly, and put together again."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisperstill.decode.longform import chunk_merge, chunk_overlap
from whisperstill.decode.longform.chunk_merge import (
    ChunkMerger,
    MergePoint,
    find_merge_point,
    merge_by_position,
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


def say(words: Sequence[Word]) -> str:
    """What they say, without case and punctuation."""
    return " ".join(normalize_word(word.word) for word in words)


def joined(left: Sequence[Word], right: Sequence[Word], seam: MergePoint | None) -> str:
    assert seam is not None
    return say([*left[: seam.left_end], *right[seam.right_start :]])


def spoken(chance: random.Random, seconds: float, unspaced: bool = False) -> list[Word]:
    """What is said in a recording: few words that come again and again, many that do not, repeats, pauses."""
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


def hear(
    truth: Sequence[Word], begin: float, end: float, seconds: float, chance: random.Random, blur: float = 0.12
) -> list[Word]:
    """The words of a chunk: badly timed, in another case, and at its edges cut, lost, misheard or invented."""
    heard: list[Word] = []
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
        if heard:
            start = max(start, heard[-1].start)
        probability = chance.uniform(0.2, 0.7) if ragged else chance.uniform(0.6, 1.0)
        heard.append(Word(start, min(end, max(stop, start + 0.02)), text, probability))
    if end < seconds and chance.random() < 0.3 and (not heard or heard[-1].end < end - 0.05):
        start = max(end - 0.3, heard[-1].end if heard else 0.0)
        heard.append(Word(start, end, " zzyzx", chance.uniform(0.1, 0.6)))
    return heard


def put_together(
    chunks: Sequence[tuple[list[Word], float, float]], language: str = "en"
) -> tuple[list[Word], list[MergePoint]]:
    stitched = ChunkMerger(language)
    words = [word for heard, begin, end in chunks for word in stitched.add_chunk(heard, begin, end)]
    return words + stitched.finish(), stitched.merge_points


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((15.0, 30.0)))
def test_what_was_said_comes_back(seed: int, length: float) -> None:
    chance = random.Random(seed)
    truth, seconds = spoken(chance, 100.0), 100.0
    chunks = [(hear(truth, begin, end, seconds, chance), begin, end) for begin, end in chunked(seconds, length)]
    words, found = put_together(chunks)
    assert len(found) == len(chunks) - 1
    if all(seam.matched for seam in found):  # else a window in between is asked for
        assert say(words) == say(truth)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_characters_come_back(seed: int) -> None:
    chance = random.Random(seed)
    truth, seconds = spoken(chance, 60.0, unspaced=True), 60.0
    chunks = [(hear(truth, begin, end, seconds, chance, 0.06), begin, end) for begin, end in chunked(seconds, 30.0)]
    words, found = put_together(chunks, "zh")
    if all(seam.matched for seam in found):  # two or three characters in all of an overlap can be too few
        assert say(words) == say(truth)


def wrong(recordings: int = 12) -> int:
    """How many recordings do not come back."""
    count = 0
    for seed in range(recordings):
        chance = random.Random(seed)
        truth, seconds = spoken(chance, 100.0), 100.0
        chunks = [(hear(truth, begin, end, seconds, chance), begin, end) for begin, end in chunked(seconds, 15.0)]
        count += say(put_together(chunks)[0]) != say(truth)
    return count


def always_merge_without_match(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint:
    return merge_without_match(left, right, begin, end)


def always_merge_by_position(
    left: Sequence[Word], right: Sequence[Word], begin: float, end: float, language: str
) -> MergePoint:
    return merge_by_position(left, right, begin, end)


@pytest.mark.parametrize("other", [always_merge_without_match, always_merge_by_position])
def test_without_comparing_words_recordings_do_not_come_back(
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
    """The slow twin: every alignment of what is left, tried."""
    if i == len(credit) or j == len(credit[0]):
        return 0.0
    found = max(best_sum(credit, i + 1, j, False), best_sum(credit, i, j + 1, False))
    if credit[i][j] > 0:
        found = max(
            found, credit[i][j] + chunk_merge.CONSECUTIVE_PAIR_BONUS * adjacent + best_sum(credit, i + 1, j + 1, True)
        )
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_alignment_is_the_best_of_all(seed: int) -> None:
    chance = random.Random(seed)
    sides = [
        [replace(word, start=word.start + chance.random()) for word in timed(" ".join(chance.choices("ab", k=k)), 10.2)]
        for k in (chance.randint(1, 5), chance.randint(1, 5))
    ]
    pairs = chunk_merge._match_words(chunk_overlap.ChunkOverlap(*sides, 10.0, 15.0))
    runs = sum(i + 1 == k and j + 1 == m for (i, j, _), (k, m, _) in pairwise(pairs))
    credit = [[chunk_merge._match_score(mine, theirs) for theirs in sides[1]] for mine in sides[0]]
    assert sum(pair[2] for pair in pairs) + chunk_merge.CONSECUTIVE_PAIR_BONUS * runs == pytest.approx(
        best_sum(credit, 0, 0, False)
    )
    assert [pair[0] for pair in pairs] == sorted({pair[0] for pair in pairs})
    assert [pair[1] for pair in pairs] == sorted({pair[1] for pair in pairs})


def test_the_cut_is_in_the_middle_of_what_both_say() -> None:
    text = "a bee sees the deer eat all of its green leaves today"
    left, right = timed(text, 10.1), timed(text, 10.1)
    seam = find_merge_point(left, right, 10.0, 15.0, "en")
    assert joined(left, right, seam) == text
    assert seam is not None and seam.left_end == seam.right_start == 6
    assert seam.time == pytest.approx(12.5)


def test_a_pause_near_the_middle_is_preferred() -> None:
    first, second = "a bee sees the deer", "eat all of its green leaves today"
    left = right = [*timed(first, 10.1), *timed(second, 12.4)]
    seam = find_merge_point(left, right, 10.0, 15.5, "en")
    assert seam is not None and seam.left_end == seam.right_start == 5


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
    seam = find_merge_point(left, right, 10.0, 15.0, "en")
    assert seam == MergePoint(4, 0, seam.time if seam else 0.0)
    assert seam is not None and seam.time == pytest.approx(12.8, abs=0.5)
    assert find_merge_point([], [], 10.0, 15.0, "en") == MergePoint(0, 0, 12.5)


def test_who_is_alone_is_believed_away_from_its_edge() -> None:
    early = timed("well now", 10.3, probability=0.6)
    assert joined(early, [], find_merge_point(early, [], 10.0, 15.0, "en")) == "well now"
    assert (
        joined([], early, find_merge_point([], early, 10.0, 15.0, "en")) == "well now"
    )  # first words are seldom made up
    late = timed("thank you", 14.55, 0.2, probability=0.6)
    assert joined([], late, find_merge_point([], late, 10.0, 15.0, "en")) == "thank you"
    assert joined(late, [], find_merge_point(late, [], 10.0, 15.0, "en")) == ""  # last ones are
    assert joined(late, [], merge_by_position(late, [], 10.0, 15.0)) == ""


def test_what_one_chunk_skipped_is_taken_from_the_other() -> None:
    text = "a bee sees the deer eat all of its green leaves today"
    whole = timed(text, 10.1)
    assert joined(whole, whole[:3], find_merge_point(whole, whole[:3], 10.0, 15.0, "en")) == text
    assert joined(whole[:3], whole, find_merge_point(whole[:3], whole, 10.0, 15.0, "en")) == text
    assert (
        find_merge_point(whole[:3], whole[7:], 10.0, 15.0, "en") is None
    )  # both skipped: a window in between is needed


def test_the_last_resort_knows_loops_and_skips() -> None:
    loop, speech = timed("on and on and on and on and", 10.0), timed("she went home at ten that day", 10.0)
    assert joined(loop, speech, merge_without_match(loop, speech, 10.0, 14.0)) == say(speech)
    assert joined(speech, loop, merge_without_match(speech, loop, 10.0, 14.0)) == say(speech)
    sparse = timed("he said", 10.0, 1.5)
    assert joined(sparse, speech, merge_without_match(sparse, speech, 10.0, 14.0)) == f"he said {say(speech)}"


def test_no_agreement_is_none_and_a_window_in_between_helps() -> None:
    text = "then one day the fox came home and saw that all the hens had gone to sea in a boat"
    truth = timed(text, 5.0)
    left = [*truth[:12], *timed("xx yy zz vv", 9.8)]
    right = [*timed("qq rr ss", 10.0), *truth[16:]]
    assert find_merge_point(left, right, 9.6, 11.4, "en") is not None  # so short an overlap is all edge
    left = [*truth[:12], *timed("xx yy zz vv ww", 9.8)]
    assert find_merge_point(left, right, 9.0, 12.0, "en") is None
    stitched = ChunkMerger("en")
    first = stitched.add_chunk(left, 4.0, 12.0)
    assert stitched.can_merge(truth[6:19], 7.4)
    assert not stitched.can_merge(right, 9.0)
    second = stitched.add_chunk(truth[6:19], 7.4, 12.6)
    third = stitched.add_chunk(right, 10.0, 16.0)
    assert say([*first, *second, *third, *stitched.finish()]) == text
    assert [seam.matched for seam in stitched.merge_points] == [True, True]


def test_without_a_window_in_between_it_is_joined_and_said() -> None:
    left, right = timed("a b c d e f g h i j k l m", 10.0), timed("n o p q r s t u v w x y z", 10.0)
    words, found = put_together([(left, 0.0, 15.0), (right, 10.0, 25.0)])
    assert found == [MergePoint(6, 6, 12.5, matched=False)]
    assert say(words) == "a b c d e f t u v w x y z"


def test_only_the_last_chunk_is_held() -> None:
    stitched = ChunkMerger("en")
    said = 0
    for number in range(200):
        words = timed(" ".join(f"w{number * 25 + i}" for i in range(37)), number * 10.0)
        said += len(stitched.add_chunk(words, number * 10.0, number * 10.0 + 15))
        assert len(stitched._pending_words) <= len(words)
    assert said + len(stitched.finish()) == 199 * 25 + 37
    assert stitched.finish() == []


def test_chunks_without_overlap_are_put_side_by_side() -> None:
    words, found = put_together([(timed("a b", 1.0), 0.0, 15.0), (timed("b c", 15.0), 15.0, 30.0)])
    assert say(words) == "a b b c"
    assert found[0].matched


def test_what_lies_before_a_seam_is_not_said_again() -> None:
    """A third chunk that begins before the seam of the first two: what it has there is alone, and yet no news."""
    words = timed("a b c d e f g h i j k l m n o p q r s t", 0.0)
    stitched, kept = ChunkMerger("en"), []
    kept += stitched.add_chunk(words[:12], 0.0, 4.8)
    kept += stitched.add_chunk(words[8:16], 3.2, 6.4)  # the seam lies near 4 s
    third = [replace(word, word=f" {word.word[1]}x", probability=1.0) for word in words[2:8]] + words[8:]
    assert stitched.can_merge(third, 0.8)
    kept += stitched.add_chunk(third, 0.8, 8.0)
    assert say([*kept, *stitched.finish()]) == say(words)


def test_a_short_overlap_is_not_asked_for_more_than_it_can_hold() -> None:
    """Words beyond it, which are compared as well, are not counted."""
    words = timed("one two three four five six seven eight nine ten eleven twelve", 0.0)
    seam = find_merge_point(words[:7], words[6:], 2.3, 2.9, "en")
    assert seam is not None and joined(words[:7], words[6:], seam) == say(words)
