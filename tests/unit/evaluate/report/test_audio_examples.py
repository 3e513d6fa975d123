"""Alignments as they are shown."""

from whisperstill.evaluate.report.audio_examples import (
    MAX_ERROR_RUN_WORDS,
    AlignmentSpan,
    describe_draft,
    group_alignment_ops,
)
from whisperstill.records.eval_results import AlignmentOp, DraftToken, DraftTrace


def step(kind: str, said: str = "", heard: str = "") -> AlignmentOp:
    return AlignmentOp(kind, said, heard)


def test_neighbours_of_a_kind_are_one_piece_but_for_substitutions() -> None:
    steps = (step("=", "a", "a"), step("=", "b", "b"), step("s", "c", "x"), step("s", "d", "y"), step("d", "e"))
    assert list(group_alignment_ops((*steps, step("d", "f"), step("i", "", "z")))) == [
        AlignmentSpan("equal", "a b"),
        AlignmentSpan("substituted", "x", "c"),
        AlignmentSpan("substituted", "y", "d"),
        AlignmentSpan("deleted", "e f"),
        AlignmentSpan("inserted", "z"),
    ]


def test_a_loop_is_cut_and_its_length_said() -> None:
    first, cut = group_alignment_ops([step("i", "", "you")] * 300)
    assert first == AlignmentSpan("inserted", " ".join(["you"] * MAX_ERROR_RUN_WORDS))
    assert (cut.kind, cut.text) == ("truncated", f"… {300 - MAX_ERROR_RUN_WORDS} more words made up …")


def test_of_long_agreement_both_ends_are_shown() -> None:
    words = [f"w{number}" for number in range(500)]
    head, cut, tail = group_alignment_ops([step("=", word, word) for word in words])
    assert head.text.startswith("w0 ") and tail.text.endswith(" w499")
    assert "heard right" in cut.text
    shown = len(head.text.split()) + len(tail.text.split())
    assert cut.text == f"… {500 - shown} more words heard right …"


def test_no_words_are_no_pieces() -> None:
    assert list(group_alignment_ops(())) == []


def test_what_became_of_proposals() -> None:
    tokens = (DraftToken(" a", "bonus"), DraftToken(" b", "accepted"), DraftToken(" c", "corrected", " d"))
    said = describe_draft(DraftTrace("set", "id", 2, tokens))
    assert said == "3 tokens in 2 passes of the teacher; 1 proposals accepted (50 %), 1 corrected."
