"""Quality statistics in spaced and unspaced languages."""

import pytest
import torch
from small_models import make_tokenizer

from whisperstill.decode.generate.token_stats import DecodingResult, TokenStats
from whisperstill.label.label_quality import build_pseudo_label
from whisperstill.label.teacher import TeacherOutput
from whisperstill.records import AudioSpan, Utterance, Window
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("language", "texts", "transcript", "edits"),
    [
        ("zh", ("昨天晚上", "我们去公园"), "昨天晚上我们去花园", [(4, 0), (4, 1)]),
        ("en", ("yesterday night", "we go out"), " Yesterday night we go in", [(2, 0), (2, 1)]),
    ],
    ids=["characters", "words"],
)
def test_utterances_are_split_in_the_units_of_their_language(
    language: str, texts: tuple[str, ...], transcript: str, edits: list[tuple[int, int]]
) -> None:
    """One character of nine is wrong; counted by words, everything would be wrong and the split arbitrary."""
    tokenizer = Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)
    tokens = tuple(tokenizer.encode(transcript))
    ones, empty = torch.zeros(len(tokens)), torch.zeros(len(tokens), 0)
    observed = TokenStats(ones, ones, ones, ones, empty.long(), empty, torch.zeros(len(tokens), 1), ones)
    spans = [AudioSpan("a.wav", 3.0 * index, 3.0) for index in range(2)]
    utterances = [
        Utterance(str(index), "c", span, text, language, None, None)
        for index, (span, text) in enumerate(zip(spans, texts, strict=True))
    ]
    visit = TeacherOutput(language, DecodingResult(tokens, True, 0.0, observed), torch.zeros(1, 1))
    label = build_pseudo_label(
        Window("w", tuple(utterances), 0), visit, tokenizer, Vocabulary.from_size(51865), timestamps=False, shard="0"
    )
    counted = [quality.edits for quality in label.quality if quality.edits is not None]
    assert [(counts.hits, counts.errors) for counts in counted] == edits
    assert "".join(quality.text for quality in label.quality).replace(" ", "") == transcript.replace(" ", "")
