"""The tokens that a draft may propose.

A small draft spends most of its time on the output layer: of a step of whisper-base's 2-layer student, 72 % of the
operations. What it proposes is verified, so it need not be able to say everything: a quarter of the vocabulary will
do. The list holds the tokens of the labels that the student was trained on, filled up with those of the lowest ids:
byte-pair merges are numbered in the order of their frequency.
"""

from collections.abc import Sequence

from whisperstill.text.vocabulary import Vocabulary

NUM_DRAFT_TEXT_TOKENS = 12_288
"""Tokens of text on the list."""


def select_draft_vocabulary(vocabulary: Vocabulary, training_tokens: Sequence[int]) -> list[int]:
    """Ascending: `NUM_DRAFT_TEXT_TOKENS` of text, `training_tokens` first, and all others (the end, timestamps)."""
    num_text_tokens = vocabulary.end_of_text
    selected = dict.fromkeys(token for token in training_tokens if 0 <= token < num_text_tokens)
    for token in range(num_text_tokens):
        if len(selected) >= NUM_DRAFT_TEXT_TOKENS:
            break
        selected.setdefault(token)
    return [*sorted(list(selected)[:NUM_DRAFT_TEXT_TOKENS]), *range(num_text_tokens, vocabulary.size)]
