"""Each question of a newcomer is answered by one search for the field's term (see newcomer_questions.toml)."""

import tomllib
from pathlib import Path

import pytest
from find_term import hits

QUESTIONS = tomllib.loads((Path(__file__).parent / "newcomer_questions.toml").read_text(encoding="utf-8"))["question"]
BEST_HITS = 4
"""An answer counts if it is among the first hits, those that a reader looks at."""


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["search"].replace(" ", "-"))
def test_a_search_for_the_term_leads_to_the_answer(question: dict[str, str]) -> None:
    best = [name for name, _ in hits(question["search"])[:BEST_HITS]]
    assert question["answer"] in best, f"{question['question']} {question['search']!r} leads to {best or 'nothing'}"
