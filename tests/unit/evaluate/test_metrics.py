"""Metrics of an output against jiwer, and against the teacher's output."""

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
REFERENCES = ["Mr. Smith paid 20 dollars.", "Colour me surprised!", "Where are we going today, my friend?", "Yes."]
HYPOTHESES = [
    "mister smith paid twenty dollars",
    "color me surprised",
    "where we going going today",
    "yes yes yes yes yes yes",
]


def utterance(number: int, text: str, seconds: float = 3.0, speaker: str | None = None) -> Utterance:
    return Utterance(f"u{number}", "set", AudioSpan("a.wav", 0.0, seconds), text, "en", speaker, None)


def make_output(texts: list[str], references: list[str] = REFERENCES, scoring: Scoring = SCORING) -> SystemOutput:
    utterances = tuple(utterance(i, text, 3.0 * (i + 1), f"s{i % 2}") for i, text in enumerate(references))
    return SystemOutput(utterances, tuple(texts), 1.5, scoring)


def metrics(texts: list[str], teacher: SystemOutput | None = None, references: list[str] = REFERENCES) -> DatasetResult:
    return compute_metrics(
        make_output(texts, references),
        measurement="short_form",
        model="m",
        dataset="s",
        decoding="short",
        teacher_output=teacher,
    )


def test_edits_equal_jiwer() -> None:
    clean = get_normalizer("english")
    result = metrics(HYPOTHESES)
    expected = jiwer.process_words([clean(t) for t in REFERENCES], [clean(t) for t in HYPOTHESES])
    assert (result.substitutions, result.deletions, result.insertions) == (
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    )
    assert result.wer == pytest.approx(100 * expected.wer)
    assert result.cer == pytest.approx(100 * jiwer.cer([clean(t) for t in REFERENCES], [clean(t) for t in HYPOTHESES]))
    assert result.wer_low <= result.wer <= result.wer_high
    assert result.wer_orthographic == pytest.approx(100 * jiwer.wer(REFERENCES, HYPOTHESES))
    assert result.wer_orthographic > result.wer
    assert sum(result.utterance_errors) == expected.substitutions + expected.deletions + expected.insertions


def test_difference_and_agreement_with_the_teacher() -> None:
    teacher = make_output(REFERENCES)
    result = metrics(HYPOTHESES, teacher)
    assert result.difference_to_teacher is not None
    assert result.difference_to_teacher.difference == pytest.approx(result.wer)
    assert result.agreement_with_teacher == 50.0  # two of four texts are the same after normalisation
    of_itself = metrics(REFERENCES, teacher)
    assert (
        of_itself.agreement_with_teacher == 100.0
        and of_itself.difference_to_teacher is not None
        and of_itself.difference_to_teacher.p_value == 1
    )


def test_only_common_utterances_are_compared() -> None:
    teacher = make_output(REFERENCES).restrict_to({"u0", "u1"})
    result = metrics(HYPOTHESES, teacher)
    assert result.agreement_with_teacher == 100.0
    assert metrics(HYPOTHESES, make_output(REFERENCES).restrict_to(set())).agreement_with_teacher is None


def test_subsets_add_up() -> None:
    result = metrics(HYPOTHESES)
    assert [subset.name for subset in result.by_speaker] == ["s0", "s1"]
    assert [subset.name for subset in result.by_duration] == ["2-5 s", "5-10 s", "10-20 s"]
    for parts in (result.by_speaker, result.by_duration):
        assert sum(subset.words for subset in parts) == result.words
        errors = sum(subset.wer * subset.words for subset in parts)
        assert errors == pytest.approx(result.wer * result.words)


def test_duration_bins() -> None:
    assert [duration_bin(utterance(0, "", s)) for s in (0.5, 2.0, 2.1, 30.0, 31.0)] == [
        "0-2 s",
        "0-2 s",
        "2-5 s",
        "20-30 s",
        "over 30 s",
    ]
    names = ["over 30 s", "10-20 s", "2-5 s", "zoe", "adam"]
    assert sorted(names, key=natural_sort_key) == ["2-5 s", "10-20 s", "over 30 s", "adam", "zoe"]


def test_non_speech_audio_has_no_error_rate() -> None:
    result = metrics(["thank you", ""], references=["", ""])
    assert (result.wer, result.words, result.hallucination.words_on_non_speech) == (0.0, 0, 2)


def test_an_output_without_texts_is_an_error() -> None:
    with pytest.raises(CorpusError, match="none of 4"):
        in_corpus_order(make_output(REFERENCES).utterances, {}, 0.0, SCORING)
    ordered = in_corpus_order(make_output(REFERENCES).utterances, {"u2": "two", "u0": "none"}, 0.0, SCORING)
    assert ordered.texts == ("none", "two")


def test_error_examples_take_turns_by_reason() -> None:
    outputs = {"teacher": make_output(REFERENCES), "m": make_output(HYPOTHESES)}
    examples = select_error_examples("s", outputs, "m", 2, "teacher")
    assert [(example.id, example.reason) for example in examples] == [("u3", "repetition loop"), ("u2", "errors")]
    assert [alignment.model for alignment in examples[0].alignments] == ["teacher", "m"]
    ops = examples[1].alignments[1].ops
    assert [op.kind for op in ops].count("d") == 3 and ops[0].hypothesis == "where"
    assert not select_error_examples("s", {"m": make_output(REFERENCES)}, "m", 5)


def test_a_long_recording_is_resampled_in_blocks() -> None:
    """One recording has an interval; blocks are the same for all models and add up to the recording."""
    generator = np.random.default_rng(0)
    words = [f"w{index}" for index in range(1050)]
    talk = Utterance("talk", "c", AudioSpan("a.wav", 0.0, 600.0), " ".join(words), "en", None, None)

    def with_errors(wrong: float) -> SystemOutput:
        hypothesis = [word if generator.random() > wrong else "x x" for word in words]
        return SystemOutput((talk,), (" ".join(hypothesis),), 1.0, Scoring("none", "word"))

    good, bad = with_errors(0.05), with_errors(0.2)
    assert (
        [part.reference_length for part in good.blocks] == [part.reference_length for part in bad.blocks] == [105] * 10
    )
    assert sum(part.errors for part in bad.blocks) == bad.edits[0].errors
    result = compute_metrics(
        bad, measurement="long_form", model="m", dataset="s", decoding="silence", teacher_output=good
    )
    assert result.wer_low < result.wer - 1 and result.wer + 1 < result.wer_high
    assert (
        result.difference_to_teacher is not None
        and result.difference_to_teacher.low > 0
        and result.difference_to_teacher.p_value < 0.01
    )
    assert len(result.utterance_errors) == 10 and result.utterances == 1
    short = SystemOutput(
        (replace(talk, text=" ".join(words[:150])),), (" ".join(words[:140]),), 1.0, Scoring("none", "word")
    )
    assert short.blocks == short.edits
