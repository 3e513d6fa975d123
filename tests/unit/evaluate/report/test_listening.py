"""Alignments as they are shown."""

from whisperstill.evaluate.report.listening import MOST_WORDS, Piece, draft_facts, pieces
from whisperstill.records.findings import DraftShown, DraftToken, Step


def step(kind: str, said: str = "", heard: str = "") -> Step:
    return Step(kind, said, heard)


def test_neighbours_of_a_kind_are_one_piece_but_for_substitutions() -> None:
    steps = (step("=", "a", "a"), step("=", "b", "b"), step("s", "c", "x"), step("s", "d", "y"), step("d", "e"))
    assert list(pieces((*steps, step("d", "f"), step("i", "", "z")))) == [
        Piece("equal", "a b"),
        Piece("substituted", "x", "c"),
        Piece("substituted", "y", "d"),
        Piece("deleted", "e f"),
        Piece("inserted", "z"),
    ]


def test_a_loop_is_cut_and_its_length_said() -> None:
    first, cut = pieces([step("i", "", "you")] * 300)
    assert first == Piece("inserted", " ".join(["you"] * MOST_WORDS))
    assert (cut.kind, cut.text) == ("cut", f"… {300 - MOST_WORDS} more words made up …")


def test_of_long_agreement_both_ends_are_shown() -> None:
    words = [f"w{number}" for number in range(500)]
    head, cut, tail = pieces([step("=", word, word) for word in words])
    assert head.text.startswith("w0 ") and tail.text.endswith(" w499")
    assert "heard right" in cut.text
    shown = len(head.text.split()) + len(tail.text.split())
    assert cut.text == f"… {500 - shown} more words heard right …"


def test_no_words_are_no_pieces() -> None:
    assert list(pieces(())) == []


def test_what_became_of_proposals() -> None:
    tokens = (DraftToken(" a", "own"), DraftToken(" b", "accepted"), DraftToken(" c", "corrected", " d"))
    said = draft_facts(DraftShown("set", "id", 2, tokens))
    assert said == "3 tokens in 2 passes of the teacher; 1 proposals accepted (50 %), 1 corrected."
