"""Planted hallucinations are found, each by the figure that is for it; clean output shows none."""

from dataclasses import replace

from whisperstill.evaluate.hallucination import (
    compute_hallucination_metrics,
    count_repeated_five_grams,
    has_repetition_loop,
    longest_deletion,
)
from whisperstill.records.eval_results import HallucinationMetrics
from whisperstill.text.edit_distance import align

SAID = [
    "the quick brown fox jumps over the lazy dog".split(),
    "she sells sea shells by the sea shore every single day".split(),
    "one two three four five six seven eight nine ten".split(),
]


def figures(said: list[list[str]], heard: list[list[str]]) -> HallucinationMetrics:
    return compute_hallucination_metrics(
        said, heard, [align(mine, theirs) for mine, theirs in zip(said, heard, strict=True)]
    )


def planted(at: int, words: list[str]) -> list[list[str]]:
    return [words if place == at else list(one) for place, one in enumerate(SAID)]


CLEAN = figures(SAID, SAID)


def test_clean_output_shows_none() -> None:
    assert CLEAN == HallucinationMetrics(
        five_grams=5 + 7 + 6,
        repeated_five_grams=0,
        repeated_in_reference=0,
        repeated_beyond_reference=0,
        insertion_rate=0.0,
        length_ratio_p95=1.0,
        length_ratio_p99=1.0,
        repetition_loops=0,
        longest_deletion=0,
    )


def test_a_loop_is_found() -> None:
    loop = figures(SAID, planted(0, SAID[0] + ["lazy", "dog"] * 20))
    assert loop.repetition_loops == 1
    assert loop.repeated_beyond_reference == loop.repeated_five_grams > 30
    assert loop.length_ratio_p99 > 5
    assert loop.insertion_rate > 100


def test_an_inserted_phrase_is_found() -> None:
    phrase = figures(SAID, planted(1, SAID[1] + "thank you for watching".split()))
    assert phrase.insertion_rate == 100 * 4 / 30
    assert (phrase.repetition_loops, phrase.longest_deletion, phrase.repeated_five_grams) == (0, 0, 0)
    assert phrase.length_ratio_p99 > CLEAN.length_ratio_p99


def test_the_same_phrase_in_many_utterances_is_found() -> None:
    phrase = "thanks for watching this video".split()
    everywhere = figures(SAID, [[*one, *phrase] for one in SAID])
    assert everywhere.repeated_beyond_reference == 2
    assert everywhere.repetition_loops == 0


def test_a_truncation_is_found() -> None:
    cut = figures(SAID, planted(2, SAID[2][:3]))
    assert cut.longest_deletion == 7
    assert cut.insertion_rate == 0


def test_words_where_nobody_speaks_are_found() -> None:
    silence = figures([[], [], []], [["thank", "you"], [], []])
    assert (silence.words_on_non_speech, silence.non_speech_clips_with_words, silence.non_speech_clips) == (2, 1, 3)
    assert figures([[]], [[]]).words_on_non_speech == 0


def test_what_the_speaker_repeats_is_none() -> None:
    chant = [["row", "your", "boat"] * 6]
    sung = figures(chant, chant)
    assert sung.repeated_five_grams == sung.repeated_in_reference > 0
    assert (sung.repeated_beyond_reference, sung.repetition_loops) == (0, 0)
    assert has_repetition_loop(chant[0][:6], chant[0])  # the control: said twice, heard six times


def test_five_grams_are_those_of_the_paper() -> None:
    """5-grams less distinct 5-grams over a set; none reaches from one utterance into the next."""
    assert count_repeated_five_grams([list("abcde"), list("abcde")]) == 1
    assert count_repeated_five_grams([list("abc"), list("dea"), list("bcd")]) == 0
    assert count_repeated_five_grams([list("aaaaaaa")]) == 2


def test_deletions_count_in_a_row() -> None:
    assert longest_deletion([(0, 0), (1, None), (2, None), (3, 1), (4, None)]) == 2
    assert longest_deletion([]) == 0


def test_the_figures_are_of_the_set() -> None:
    both = figures(SAID, planted(0, [*SAID[0][:4], *["and"] * 9]))
    assert both.repetition_loops == 1
    assert replace(both, repetition_loops=0) != replace(CLEAN, repetition_loops=0)
