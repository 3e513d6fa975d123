"""The vocabulary of a draft model."""

import pytest

from whisperstill.decode.generate import draft_model as module
from whisperstill.decode.generate.draft_model import select_draft_vocabulary
from whisperstill.text.vocabulary import Vocabulary


def test_training_tokens_then_lowest_ids_then_special_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUM_DRAFT_TEXT_TOKENS", 5)
    vocabulary = Vocabulary.from_size(51865)
    rest = list(range(vocabulary.end_of_text, vocabulary.size))
    assert select_draft_vocabulary(vocabulary, [40_000, 3, 700]) == [0, 1, 3, 700, 40_000, *rest]
    assert select_draft_vocabulary(vocabulary, [9, 8, 7, 6, 5, 4, 3]) == [5, 6, 7, 8, 9, *rest]
    assert select_draft_vocabulary(vocabulary, [-1, vocabulary.end_of_text, 60_000]) == [0, 1, 2, 3, 4, *rest]
    assert vocabulary.timestamp_begin in rest
