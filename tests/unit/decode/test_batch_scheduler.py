"""Greedy decoding in slots equals a full forward pass per token; token statistics; language detection."""

import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult, token_stats
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

from unit.decode.batches import decode_batch, make_scheduler, run

VOCABULARY = Vocabulary.from_size(51865)
STEPS = 10


@pytest.fixture(scope="module")
def network(random_checkpoint: Checkpoint) -> Whisper:
    return Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(5, 1500, 32, generator=torch.Generator().manual_seed(3))


def greedy(
    network: Whisper, states: Tensor, start: Tensor, logit_filter: LogitFilter, **options: int
) -> list[DecodingResult]:
    return decode_batch(network, states, start, logit_filter, **options)[0]  # type: ignore[arg-type]


def decode_reference(
    network: Whisper, state: Tensor, start: tuple[int, ...], logit_filter: LogitFilter, steps: int
) -> tuple[list[int], list[float]]:
    """One row, with a full teacher-forced pass for every token."""
    tokens_so_far: list[int] = []
    logprobs: list[float] = []
    history = TokenHistory.empty(1, torch.device("cpu"))
    with torch.inference_mode():
        cache = network.decoder.prefill(state[None])
        for _ in range(steps):
            tokens = torch.tensor([[*start, *tokens_so_far]])
            hidden = network.decoder(tokens, torch.zeros(1, dtype=torch.long), cache)[:, -1]
            logits = network.decoder.logits(hidden)
            token = int(logit_filter.apply(logits.clone(), history).argmax())
            logprobs.append(float(logits.log_softmax(-1)[0, token]))
            history = history.append(torch.tensor([token]), VOCABULARY.timestamp_begin)
            tokens_so_far.append(token)
            if token == VOCABULARY.end_of_text:
                break
    return tokens_so_far, logprobs


@pytest.mark.parametrize("timestamps", [False, True], ids=["text", "timestamps"])
@pytest.mark.parametrize("prompt", [(), (50361, 100, 101)], ids=["no prompt", "prompt"])
def test_greedy_equals_full_forward_passes(
    network: Whisper, states: Tensor, timestamps: bool, prompt: tuple[int, ...]
) -> None:
    logit_filter = LogitFilter(VOCABULARY, GenerationConfig((1, 2), (220, 50257), ()), timestamps)
    start = (*prompt, *VOCABULARY.sot_sequence("en", "transcribe", timestamps))
    results = greedy(network, states, torch.tensor([start] * len(states)), logit_filter, max_new_tokens=STEPS, top_k=3)
    for state, result in zip(states, results, strict=True):
        tokens_so_far, logprobs = decode_reference(network, state, start, logit_filter, STEPS)
        assert list(result.tokens) == [token for token in tokens_so_far if token != VOCABULARY.end_of_text]
        assert result.token_stats.logprob.tolist() == pytest.approx(logprobs, abs=1e-3)
    assert len({result.tokens for result in results}) > 1  # results depend on the window


def test_rows_that_end_at_different_steps(network: Whisper, states: Tensor) -> None:
    """Results in a batch equal those of windows decoded alone, while rows are dropped."""
    logit_filter = LogitFilter(VOCABULARY, GenerationConfig((), (), ()), False)
    start = torch.tensor([VOCABULARY.sot_sequence("en")] * len(states))
    plain = greedy(network, states, start, logit_filter, max_new_tokens=STEPS)
    end_triggers = {result.tokens[2 + row] for row, result in enumerate(plain[:3])}  # tokens that end a row
    ending_filter = LogitFilter(VOCABULARY, GenerationConfig((), (), ()), False)
    apply = ending_filter.apply

    def apply_with_ends(logits: Tensor, history: TokenHistory) -> Tensor:
        logits = apply(logits, history).clone()
        hit = torch.isin(logits.argmax(-1), torch.tensor(sorted(end_triggers)))
        logits[hit, VOCABULARY.end_of_text] = 1e4
        return logits

    ending_filter.apply = apply_with_ends  # type: ignore[method-assign]
    together = greedy(network, states, start, ending_filter, max_new_tokens=STEPS)
    alone = [
        greedy(network, states[row : row + 1], start[:1], ending_filter, max_new_tokens=STEPS)[0] for row in range(5)
    ]
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    assert sum(result.ended for result in together) >= 3
    assert len({len(result.tokens) for result in together}) > 1


@torch.inference_mode()
def test_token_stats_describe_the_distribution(network: Whisper, states: Tensor) -> None:
    logit_filter = LogitFilter(VOCABULARY, GenerationConfig((), (), ()), False)
    start = torch.tensor([VOCABULARY.sot_sequence("en")])
    stats = greedy(network, states[:1], start, logit_filter, max_new_tokens=4, top_k=5)[0].token_stats
    logits = network.decoder.logits(stats.hidden).double()
    torch.testing.assert_close(stats.lse1.double(), logits.logsumexp(-1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(stats.lse2.double(), (logits / 2).logsumexp(-1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(stats.top_logits, logits.topk(5).values.float(), rtol=1e-5, atol=1e-4)
    distribution = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(stats.entropy.double(), distribution.entropy(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
def test_token_stats_are_exact(scale: float) -> None:
    logits = scale * torch.randn(4, 2001, generator=torch.Generator().manual_seed(1)) - 7
    lse1, lse2, entropy = token_stats(logits, torch.empty_like(logits))
    exact = logits.double()
    torch.testing.assert_close(lse1.double(), exact.logsumexp(-1), rtol=1e-6, atol=2e-5)
    torch.testing.assert_close(lse2.double(), (exact / 2).logsumexp(-1), rtol=1e-6, atol=2e-5)
    torch.testing.assert_close(
        entropy.double(), torch.distributions.Categorical(logits=exact).entropy(), rtol=1e-5, atol=1e-4
    )


def test_no_speech_prob_at_start_of_transcript(network: Whisper, states: Tensor) -> None:
    """Prompts of equal length with <|startoftranscript|> at different positions."""
    logit_filter, start = (
        LogitFilter(VOCABULARY, GenerationConfig((), (), ()), True),
        VOCABULARY.sot_sequence("en", "transcribe", True),
    )
    starts = [(*start, 100, 101, 102, 103), (VOCABULARY.start_of_previous, 200, 201, 202, *start)]
    requests = [DecodeRequest(state, tokens, max_new_tokens=2) for state, tokens in zip(states, starts, strict=False)]
    together = [result.no_speech_prob for result in run(make_scheduler(network, logit_filter, 2), requests)]
    alone = [run(make_scheduler(network, logit_filter, 1), [request])[0].no_speech_prob for request in requests]
    assert together == pytest.approx(alone, rel=1e-4)
    assert together[0] != pytest.approx(together[1], rel=1e-3)
