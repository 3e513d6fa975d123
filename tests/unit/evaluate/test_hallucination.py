"""Hallucination metrics: each detects its kind of planted hallucination, clean output has none."""

from dataclasses import replace

from whisperstill.evaluate.hallucination import (
    compute_hallucination_metrics,
    has_repetition_loop,
    longest_deletion,
)
from whisperstill.records.eval_results import HallucinationMetrics
from whisperstill.text.edit_distance import align

REFERENCES = [
    "the quick brown fox jumps over the lazy dog".split(),
    "she sells sea shells by the sea shore every single day".split(),
    "one two three four five six seven eight nine ten".split(),
]


def metrics(references: list[list[str]], hypotheses: list[list[str]]) -> HallucinationMetrics:
    return compute_hallucination_metrics(references, hypotheses, list(map(align, references, hypotheses)))


def replace_utterance(position: int, words: list[str]) -> list[list[str]]:
    return [words if index == position else list(text) for index, text in enumerate(REFERENCES)]


CLEAN = metrics(REFERENCES, REFERENCES)


def test_clean_output_has_no_hallucinations() -> None:
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


def test_a_repetition_loop_is_detected() -> None:
    loop = metrics(REFERENCES, replace_utterance(0, REFERENCES[0] + ["lazy", "dog"] * 20))
    assert loop.repetition_loops == 1
    assert loop.repeated_beyond_reference == loop.repeated_five_grams > 30
    assert loop.length_ratio_p99 > 5
    assert loop.insertion_rate > 100


def test_an_inserted_phrase_is_detected() -> None:
    phrase = metrics(REFERENCES, replace_utterance(1, REFERENCES[1] + "thank you for watching".split()))
    assert phrase.insertion_rate == 100 * 4 / 30
    assert (phrase.repetition_loops, phrase.longest_deletion, phrase.repeated_five_grams) == (0, 0, 0)
    assert phrase.length_ratio_p99 > CLEAN.length_ratio_p99


def test_a_phrase_repeated_across_utterances_is_detected() -> None:
    phrase = "thanks for watching this video".split()
    everywhere = metrics(REFERENCES, [[*text, *phrase] for text in REFERENCES])
    assert everywhere.repeated_beyond_reference == 2
    assert everywhere.repetition_loops == 0


def test_a_truncation_is_detected() -> None:
    cut = metrics(REFERENCES, replace_utterance(2, REFERENCES[2][:3]))
    assert cut.longest_deletion == 7
    assert cut.insertion_rate == 0


def test_words_on_non_speech_are_counted() -> None:
    silence = metrics([[], [], []], [["thank", "you"], [], []])
    assert (silence.words_on_non_speech, silence.non_speech_clips_with_words, silence.non_speech_clips) == (2, 1, 3)
    assert metrics([[]], [[]]).words_on_non_speech == 0


def test_repetition_in_the_reference_is_no_hallucination() -> None:
    chant = [["row", "your", "boat"] * 6]
    sung = metrics(chant, chant)
    assert sung.repeated_five_grams == sung.repeated_in_reference > 0
    assert (sung.repeated_beyond_reference, sung.repetition_loops) == (0, 0)
    assert has_repetition_loop(chant[0][:6], chant[0])  # negative control: 2 and 6 times


def test_repeated_five_grams_as_in_the_paper() -> None:
    """5-grams minus distinct 5-grams over a dataset, within utterances."""
    for texts, repeated in ((["abcde", "abcde"], 1), (["abc", "dea", "bcd"], 0), (["aaaaaaa"], 2)):
        words = list(map(list, texts))
        assert metrics(words, words).repeated_five_grams == repeated


def test_longest_run_of_deletions() -> None:
    assert longest_deletion([(0, 0), (1, None), (2, None), (3, 1), (4, None)]) == 2
    assert longest_deletion([]) == 0


def test_metrics_cover_the_dataset() -> None:
    both = metrics(REFERENCES, replace_utterance(0, [*REFERENCES[0][:4], *["and"] * 9]))
    assert both.repetition_loops == 1
    assert replace(both, repetition_loops=0) != replace(CLEAN, repetition_loops=0)
