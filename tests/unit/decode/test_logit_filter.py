"""Whisper's logit rules: vectorised over rows = openai/whisper's, row by row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_size(51865)
GENERATION = GenerationConfig(suppress_tokens=(1, 2, 7, 50258), begin_suppress_tokens=(220, 50257), alignment_heads=())
BEGIN = VOCABULARY.timestamp_begin
END = VOCABULARY.end_of_text


def barred_slowly(logits: list[float], said: list[int], timestamps: bool) -> set[int]:
    """What may not come next, as openai/whisper's three filters say it for one row."""
    size = VOCABULARY.size
    # Whatever a checkpoint says: the start of a transcript, tasks, the start of a prompt, silence.
    barred = {*GENERATION.suppress_tokens, 50258, 50358, 50359, 50360, 50361, 50362}
    if not said:
        barred |= set(GENERATION.begin_suppress_tokens)
    if not timestamps:
        return barred
    barred.add(VOCABULARY.no_timestamps)
    last_was_timestamp = bool(said) and said[-1] >= BEGIN
    penultimate_was_timestamp = len(said) < 2 or said[-2] >= BEGIN
    if last_was_timestamp:
        barred |= set(range(BEGIN, size)) if penultimate_was_timestamp else set(range(END))
    times = [token for token in said if token >= BEGIN]
    if times:
        open_pair = last_was_timestamp and not penultimate_was_timestamp
        barred |= set(range(BEGIN, times[-1] if open_pair else times[-1] + 1))
    if not said:
        barred |= set(range(BEGIN)) | set(range(BEGIN + 51, size))
    left = {token: logits[token] for token in range(size) if token not in barred}
    together = [value for token, value in left.items() if token >= BEGIN]
    text = [value for token, value in left.items() if token < BEGIN]
    if together:
        largest = max(together)
        mass = largest + math.log(sum(math.exp(value - largest) for value in together))
        if not text or mass > max(text):
            barred |= set(range(BEGIN))
    return barred


tokens = st.one_of(st.integers(0, 300), st.integers(BEGIN, BEGIN + 1500))
rows = st.lists(st.lists(tokens, max_size=6), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(said=rows, seed=st.integers(0, 99), timestamps=st.booleans(), lift=st.sampled_from([-6.0, 0.0, 3.0]))
def test_vectorised_is_row_by_row(said: list[list[int]], seed: int, timestamps: bool, lift: float) -> None:
    rules = LogitFilter(VOCABULARY, GENERATION, timestamps)
    logits = torch.randn(len(said), VOCABULARY.size, generator=torch.Generator().manual_seed(seed))
    logits[:, BEGIN:] += lift
    history = TokenHistory.empty(len(said), torch.device("cpu"))
    parts = []
    for row in said:  # rows of different length: each has a history of its own
        one = TokenHistory.empty(1, torch.device("cpu"))
        for token in row:
            one.append(torch.tensor([token]), BEGIN)
        parts.append(one)
    history = TokenHistory(
        *(
            torch.cat([getattr(p, f) for p in parts])
            for f in ("num_tokens", "last_token", "penultimate_token", "last_timestamp")
        )
    )
    begun = TokenHistory.empty(len(said), torch.device("cpu"))
    for row, past in enumerate(said):
        begun.prime(row, past, BEGIN)
    assert all(torch.equal(one, other) for one, other in zip(begun, history, strict=True))
    result = rules.apply(logits.clone(), history)
    for row, past in enumerate(said):
        barred = barred_slowly(logits[row].tolist(), past, timestamps)
        found = set((result[row] == -torch.inf).nonzero()[:, 0].tolist())
        assert found == barred
        allowed = torch.tensor([token not in barred for token in range(VOCABULARY.size)])
        assert torch.equal(result[row][allowed], logits[row][allowed])


@pytest.mark.parametrize("said", [[BEGIN + 5], [BEGIN, 100, BEGIN + 40], []])
def test_the_check_can_fail(said: list[int]) -> None:
    """One token more in the history gives other barred tokens."""
    logits = [0.0] * VOCABULARY.size
    assert barred_slowly(logits, said, True) != barred_slowly(logits, [*said, 100], True)
