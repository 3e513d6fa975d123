"""The tokens that a draft may propose.

A small draft spends most of its time on the output layer: of a step of whisper-base's 2-layer student, 72 % of the
operations. What it proposes is verified, so it need not be able to say everything: a quarter of the vocabulary will
do. The list holds the tokens of the labels that the student was trained on, filled up with those of the lowest ids:
byte-pair merges are numbered in the order of their frequency.
"""

from collections.abc import Sequence

from whisperstill.text.vocabulary import Vocabulary

SIZE = 12_288
"""Tokens of text on the list."""


def short_list(vocabulary: Vocabulary, seen: Sequence[int]) -> list[int]:
    """Ascending: `SIZE` tokens of text, those `seen` first, and all that are no text (the end, timestamps)."""
    text = vocabulary.end_of_text
    wanted = dict.fromkeys(token for token in seen if 0 <= token < text)
    for token in range(text):
        if len(wanted) >= SIZE:
            break
        wanted.setdefault(token)
    return [*sorted(list(wanted)[:SIZE]), *range(text, vocabulary.size)]
