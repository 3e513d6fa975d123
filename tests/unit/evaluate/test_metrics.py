"""Cells against jiwer, and what is between a model and its teacher."""

from dataclasses import replace

import jiwer
import numpy as np
import pytest

from whisperstill.errors import CorpusError
from whisperstill.evaluate.error_examples import select_error_examples
from whisperstill.evaluate.metrics import (
    Scoring,
    SystemOutput,
    compute_metrics,
    duration_bin,
    in_corpus_order,
    natural_sort_key,
)
from whisperstill.records import AudioSpan, Utterance
from whisperstill.records.eval_results import DatasetResult
from whisperstill.text.normalizers import get_normalizer

SCORING = Scoring("english", "word", resamples=200)
TEXTS = ["Mr. Smith paid 20 dollars.", "Colour me surprised!", "Where are we going today, my friend?", "Yes."]
HEARD = [
    "mister smith paid twenty dollars",
    "color me surprised",
    "where we going going today",
    "yes yes yes yes yes yes",
]


def utterance(number: int, text: str, seconds: float = 3.0, speaker: str | None = None) -> Utterance:
    return Utterance(f"u{number}", "set", AudioSpan("a.wav", 0.0, seconds), text, "en", speaker, None)


def heard(texts: list[str], said: list[str] = TEXTS, scoring: Scoring = SCORING) -> SystemOutput:
    ones = tuple(utterance(at, text, 3.0 * (at + 1), f"s{at % 2}") for at, text in enumerate(said))
    return SystemOutput(ones, tuple(texts), 1.5, scoring)


def cell(texts: list[str], teacher: SystemOutput | None = None, said: list[str] = TEXTS) -> DatasetResult:
    return compute_metrics(
        heard(texts, said), measurement="short_form", model="m", dataset="s", decoding="short", teacher_output=teacher
    )


def test_edits_are_jiwers() -> None:
    clean = get_normalizer("english")
    found = cell(HEARD)
    expected = jiwer.process_words([clean(t) for t in TEXTS], [clean(t) for t in HEARD])
    assert (found.substitutions, found.deletions, found.insertions) == (
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    )
    assert found.wer == pytest.approx(100 * expected.wer)
    assert found.cer == pytest.approx(100 * jiwer.cer([clean(t) for t in TEXTS], [clean(t) for t in HEARD]))
    assert found.wer_low <= found.wer <= found.wer_high
    assert found.wer_orthographic == pytest.approx(100 * jiwer.wer(TEXTS, HEARD))
    assert found.wer_orthographic > found.wer
    assert sum(found.utterance_errors) == expected.substitutions + expected.deletions + expected.insertions


def test_what_is_between_a_model_and_its_teacher() -> None:
    teacher = heard(TEXTS)
    found = cell(HEARD, teacher)
    assert found.difference_to_teacher is not None
    assert found.difference_to_teacher.difference == pytest.approx(found.wer)
    assert found.agreement_with_teacher == 50.0  # two of four texts are the same after normalisation
    same = cell(TEXTS, teacher)
    assert (
        same.agreement_with_teacher == 100.0
        and same.difference_to_teacher is not None
        and same.difference_to_teacher.p_value == 1
    )


def test_only_what_both_heard_is_compared() -> None:
    teacher = heard(TEXTS).restrict_to({"u0": None, "u1": None})
    found = cell(HEARD, teacher)
    assert found.agreement_with_teacher == 100.0
    assert cell(HEARD, heard(TEXTS).restrict_to({})).agreement_with_teacher is None


def test_slices_add_up() -> None:
    found = cell(HEARD)
    assert [one.name for one in found.by_speaker] == ["s0", "s1"]
    assert [one.name for one in found.by_duration] == ["2-5 s", "5-10 s", "10-20 s"]
    for parts in (found.by_speaker, found.by_duration):
        assert sum(one.words for one in parts) == found.words
        errors = sum(one.wer * one.words for one in parts)
        assert errors == pytest.approx(found.wer * found.words)


def test_ranges_of_duration() -> None:
    assert [duration_bin(utterance(0, "", s)) for s in (0.5, 2.0, 2.1, 30.0, 31.0)] == [
        "0-2 s",
        "0-2 s",
        "2-5 s",
        "20-30 s",
        "over 30 s",
    ]
    names = ["over 30 s", "10-20 s", "2-5 s", "zoe", "adam"]
    assert sorted(names, key=natural_sort_key) == ["2-5 s", "10-20 s", "over 30 s", "adam", "zoe"]


def test_a_set_in_which_nobody_speaks_has_no_rate() -> None:
    found = cell(["thank you", ""], said=["", ""])
    assert (found.wer, found.words, found.hallucination.words_on_non_speech) == (0.0, 0, 2)


def test_nothing_heard_is_an_error() -> None:
    with pytest.raises(CorpusError, match="none of 4"):
        in_corpus_order(heard(TEXTS).utterances, {}, 0.0, SCORING)
    kept = in_corpus_order(heard(TEXTS).utterances, {"u2": "two", "u0": "none"}, 0.0, SCORING)
    assert kept.texts == ("none", "two")


def test_the_worst_are_found_each_kind_first() -> None:
    found = select_error_examples("s", "", {"teacher": heard(TEXTS), "m": heard(HEARD)}, "m", 2, ["teacher"])
    assert [(one.id, one.reason) for one in found] == [("u3", "repetition loop"), ("u2", "errors")]
    assert [one.model for one in found[0].alignments] == ["teacher", "m"]
    steps = found[1].alignments[1].ops
    assert [one.kind for one in steps].count("d") == 3 and steps[0].hypothesis == "where"
    assert not select_error_examples("s", "", {"m": heard(TEXTS)}, "m", 5)


def test_a_long_recording_is_drawn_in_stretches() -> None:
    """One recording has an interval, the stretches are the same for all models, and together they are the recording."""
    generator = np.random.default_rng(0)
    words = [f"w{at}" for at in range(1050)]
    one = Utterance("talk", "c", AudioSpan("a.wav", 0.0, 600.0), " ".join(words), "en", None, None)

    def heard(wrong: float) -> SystemOutput:
        said = [word if generator.random() > wrong else "x x" for word in words]
        return SystemOutput((one,), (" ".join(said),), 1.0, Scoring("none", "word"))

    good, bad = heard(0.05), heard(0.2)
    assert (
        [part.reference_length for part in good.blocks] == [part.reference_length for part in bad.blocks] == [105] * 10
    )
    assert sum(part.errors for part in bad.blocks) == bad.edits[0].errors
    made = compute_metrics(
        bad, measurement="long_form", model="m", dataset="s", decoding="silence", teacher_output=good
    )
    assert made.wer_low < made.wer - 1 and made.wer + 1 < made.wer_high
    assert (
        made.difference_to_teacher is not None
        and made.difference_to_teacher.low > 0
        and made.difference_to_teacher.p_value < 0.01
    )
    assert len(made.utterance_errors) == 10 and made.utterances == 1
    short = SystemOutput(
        (replace(one, text=" ".join(words[:150])),), (" ".join(words[:140]),), 1.0, Scoring("none", "word")
    )
    assert short.blocks == short.edits
