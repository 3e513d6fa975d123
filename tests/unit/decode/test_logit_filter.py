"""LogitFilter, vectorized over rows, equals openai/whisper's filters row by row."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_size(51865)
GENERATION = GenerationConfig(suppress_tokens=(1, 2, 7, 50258), begin_suppress_tokens=(220, 50257), alignment_heads=())
BEGIN = VOCABULARY.timestamp_begin
END = VOCABULARY.end_of_text


def disallowed_reference(logits: list[float], tokens_so_far: list[int], timestamps: bool) -> set[int]:
    """Tokens that openai/whisper's three filters disallow next, for one row."""
    size = VOCABULARY.size
    # Always: <|startoftranscript|>, tasks, <|startofprev|> and <|nospeech|>.
    disallowed = {*GENERATION.suppress_tokens, 50258, 50358, 50359, 50360, 50361, 50362}
    if not tokens_so_far:
        disallowed |= set(GENERATION.begin_suppress_tokens)
    if not timestamps:
        return disallowed
    disallowed.add(VOCABULARY.no_timestamps)
    last_was_timestamp = bool(tokens_so_far) and tokens_so_far[-1] >= BEGIN
    penultimate_was_timestamp = len(tokens_so_far) < 2 or tokens_so_far[-2] >= BEGIN
    if last_was_timestamp:
        disallowed |= set(range(BEGIN, size)) if penultimate_was_timestamp else set(range(END))
    times = [token for token in tokens_so_far if token >= BEGIN]
    if times:
        open_pair = last_was_timestamp and not penultimate_was_timestamp
        disallowed |= set(range(BEGIN, times[-1] if open_pair else times[-1] + 1))
    if not tokens_so_far:
        disallowed |= set(range(BEGIN)) | set(range(BEGIN + 51, size))
    allowed = {token: logits[token] for token in range(size) if token not in disallowed}
    together = [value for token, value in allowed.items() if token >= BEGIN]
    text = [value for token, value in allowed.items() if token < BEGIN]
    if together:
        largest = max(together)
        mass = largest + math.log(sum(math.exp(value - largest) for value in together))
        if not text or mass > max(text):
            disallowed |= set(range(BEGIN))
    return disallowed


tokens = st.one_of(st.integers(0, 300), st.integers(BEGIN, BEGIN + 1500))
rows = st.lists(st.lists(tokens, max_size=6), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(tokens_so_far=rows, seed=st.integers(0, 99), timestamps=st.booleans(), lift=st.sampled_from([-6.0, 0.0, 3.0]))
def test_logit_filter_equals_reference(
    tokens_so_far: list[list[int]], seed: int, timestamps: bool, lift: float
) -> None:
    logit_filter = LogitFilter(VOCABULARY, GENERATION, timestamps)
    logits = torch.randn(len(tokens_so_far), VOCABULARY.size, generator=torch.Generator().manual_seed(seed))
    logits[:, BEGIN:] += lift
    history = TokenHistory.empty(len(tokens_so_far), torch.device("cpu"))
    parts = []
    for row in tokens_so_far:  # rows of different lengths
        row_history = TokenHistory.empty(1, torch.device("cpu"))
        for token in row:
            row_history = row_history.append(torch.tensor([token]), BEGIN)
        parts.append(row_history)
    history = TokenHistory(
        *(
            torch.cat([getattr(p, f) for p in parts])
            for f in ("num_tokens", "last_token", "penultimate_token", "last_timestamp")
        )
    )
    primed = TokenHistory.empty(len(tokens_so_far), torch.device("cpu"))
    for row, past in enumerate(tokens_so_far):
        primed.prime(row, past, BEGIN)
    torch.testing.assert_close(tuple(primed), tuple(history), rtol=0, atol=0)
    result = logit_filter.apply(logits.clone(), history)
    for row, past in enumerate(tokens_so_far):
        disallowed = disallowed_reference(logits[row].tolist(), past, timestamps)
        suppressed = set((result[row] == -torch.inf).nonzero()[:, 0].tolist())
        assert suppressed == disallowed
        allowed = torch.tensor([token not in disallowed for token in range(VOCABULARY.size)])
        torch.testing.assert_close(result[row][allowed], logits[row][allowed], rtol=0, atol=0)


@pytest.mark.parametrize(
    "tokens_so_far", [[BEGIN + 5], [BEGIN, 100, BEGIN + 40], []], ids=["open timestamp", "closed segment", "empty"]
)
def test_control_history_matters(tokens_so_far: list[int]) -> None:
    """Another token in the history changes the disallowed tokens."""
    logits = [0.0] * VOCABULARY.size
    assert disallowed_reference(logits, tokens_so_far, True) != disallowed_reference(
        logits, [*tokens_so_far, 100], True
    )
