"""Cells against jiwer, and what is between a model and its teacher."""

from dataclasses import replace

import jiwer
import numpy as np
import pytest

from whisperstill.errors import CorpusError
from whisperstill.evaluate.measure import Heard, Scoring, duration_range, measured, natural, ordered
from whisperstill.evaluate.worst import worst
from whisperstill.records import AudioSpan, Utterance
from whisperstill.records.findings import Cell
from whisperstill.text.normalise import normaliser

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


def heard(texts: list[str], said: list[str] = TEXTS, scoring: Scoring = SCORING) -> Heard:
    ones = tuple(utterance(at, text, 3.0 * (at + 1), f"s{at % 2}") for at, text in enumerate(said))
    return Heard(ones, tuple(texts), 1.5, scoring)


def cell(texts: list[str], teacher: Heard | None = None, said: list[str] = TEXTS) -> Cell:
    return measured(heard(texts, said), measurement="short_form", model="m", set="s", decoding="short", teacher=teacher)


def test_edits_are_jiwers() -> None:
    clean = normaliser("english")
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
    assert found.against_teacher is not None
    assert found.against_teacher.difference == pytest.approx(found.wer)
    assert found.agreement == 50.0  # two of four texts are the same after normalisation
    same = cell(TEXTS, teacher)
    assert same.agreement == 100.0 and same.against_teacher is not None and same.against_teacher.p == 1


def test_only_what_both_heard_is_compared() -> None:
    teacher = heard(TEXTS).only({"u0": None, "u1": None})
    found = cell(HEARD, teacher)
    assert found.agreement == 100.0
    assert cell(HEARD, heard(TEXTS).only({})).agreement is None


def test_slices_add_up() -> None:
    found = cell(HEARD)
    assert [one.name for one in found.by_speaker] == ["s0", "s1"]
    assert [one.name for one in found.by_duration] == ["2-5 s", "5-10 s", "10-20 s"]
    for parts in (found.by_speaker, found.by_duration):
        assert sum(one.words for one in parts) == found.words
        errors = sum(one.wer * one.words for one in parts)
        assert errors == pytest.approx(found.wer * found.words)


def test_ranges_of_duration() -> None:
    assert [duration_range(utterance(0, "", s)) for s in (0.5, 2.0, 2.1, 30.0, 31.0)] == [
        "0-2 s",
        "0-2 s",
        "2-5 s",
        "20-30 s",
        "over 30 s",
    ]
    names = ["over 30 s", "10-20 s", "2-5 s", "zoe", "adam"]
    assert sorted(names, key=natural) == ["2-5 s", "10-20 s", "over 30 s", "adam", "zoe"]


def test_a_set_in_which_nobody_speaks_has_no_rate() -> None:
    found = cell(["thank you", ""], said=["", ""])
    assert (found.wer, found.words, found.hallucination.words_on_non_speech) == (0.0, 0, 2)


def test_nothing_heard_is_an_error() -> None:
    with pytest.raises(CorpusError, match="none of 4"):
        ordered(heard(TEXTS).utterances, {}, 0.0, SCORING)
    kept = ordered(heard(TEXTS).utterances, {"u2": "two", "u0": "none"}, 0.0, SCORING)
    assert kept.texts == ("none", "two")


def test_the_worst_are_found_each_kind_first() -> None:
    found = worst("s", "", {"teacher": heard(TEXTS), "m": heard(HEARD)}, "m", 2, ["teacher"])
    assert [(one.id, one.why) for one in found] == [("u3", "loop"), ("u2", "errors")]
    assert [one.model for one in found[0].alignments] == ["teacher", "m"]
    steps = found[1].alignments[1].steps
    assert [one.kind for one in steps].count("d") == 3 and steps[0].heard == "where"
    assert not worst("s", "", {"m": heard(TEXTS)}, "m", 5)


def test_a_long_recording_is_drawn_in_stretches() -> None:
    """One recording has an interval, the stretches are the same for all models, and together they are the recording."""
    generator = np.random.default_rng(0)
    words = [f"w{at}" for at in range(1050)]
    one = Utterance("talk", "c", AudioSpan("a.wav", 0.0, 600.0), " ".join(words), "en", None, None)

    def heard(wrong: float) -> Heard:
        said = [word if generator.random() > wrong else "x x" for word in words]
        return Heard((one,), (" ".join(said),), 1.0, Scoring("none", "word"))

    good, bad = heard(0.05), heard(0.2)
    assert [part.reference for part in good.samples] == [part.reference for part in bad.samples] == [105] * 10
    assert sum(part.errors for part in bad.samples) == bad.edits[0].errors
    made = measured(bad, measurement="long_form", model="m", set="s", decoding="quiet", teacher=good)
    assert made.wer_low < made.wer - 1 and made.wer + 1 < made.wer_high
    assert made.against_teacher is not None and made.against_teacher.low > 0 and made.against_teacher.p < 0.01
    assert len(made.utterance_errors) == 10 and made.utterances == 1
    short = Heard((replace(one, text=" ".join(words[:150])),), (" ".join(words[:140]),), 1.0, Scoring("none", "word"))
    assert short.samples == short.edits
