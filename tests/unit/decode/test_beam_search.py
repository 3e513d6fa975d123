"""Beam search equals a slow reference, and exhaustive search if the beam is wide enough."""

from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.beam_search import BeamSearch
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary

from unit.decode.batches import decode_batch

VOCABULARY = Vocabulary.from_size(51865)
END = VOCABULARY.end_of_text
WORDS = (11, 500, 2000, 7000)
"""The only text tokens that the filter allows."""
START = VOCABULARY.sot_sequence("en")


class ReferenceSearch:
    """Slow reference: a network with few allowed tokens, and a full forward pass per sequence."""

    def __init__(self, network: Whisper, state: Tensor, logit_filter: LogitFilter) -> None:
        self.network, self.state, self.logit_filter = network, state, logit_filter
        self.next = cache(self._next)

    @torch.inference_mode()
    def _next(self, tokens: tuple[int, ...]) -> dict[int, float]:
        """Log-probabilities of the allowed next tokens."""
        history = TokenHistory.empty(1, torch.device("cpu"))
        for token in tokens:
            history = history.append(torch.tensor([token]), VOCABULARY.timestamp_begin)
        memory = self.network.decoder.prefill(self.state[None])
        tokens = torch.tensor([[*START, *tokens]])
        hidden = self.network.decoder(tokens, torch.zeros(1, dtype=torch.long), memory)[:, -1]
        logprobs = self.logit_filter.apply(self.network.decoder.logits(hidden), history).log_softmax(-1)[0]
        return {token: float(logprobs[token]) for token in (*WORDS, END) if logprobs[token] > -torch.inf}

    def score(self, tokens: tuple[int, ...]) -> float:
        """Log-probability of a sequence; minus infinity if it is not allowed."""
        return sum(self.next(tokens[:step]).get(token, -torch.inf) for step, token in enumerate(tokens))

    def search(self, size: int, patience: float, alpha: float | None, limit: int) -> tuple[int, ...]:
        """Beam search as in openai/whisper."""
        running: dict[tuple[int, ...], float] = {(): 0.0}
        finished: dict[tuple[int, ...], float] = {}
        most = round(size * patience)
        for _ in range(limit):
            scores = {}
            for tokens, score in running.items():
                best = sorted(self.next(tokens).items(), key=lambda pair: -pair[1])[: size + 1]
                scores |= {(*tokens, token): score + more for token, more in best}
            running, fresh = {}, {}
            for tokens in sorted(scores, key=scores.__getitem__, reverse=True):
                if tokens[-1] == END:
                    fresh[tokens] = scores[tokens]
                else:
                    running[tokens] = scores[tokens]
                    if len(running) == size:
                        break
            for tokens in fresh:
                if len(finished) < most:
                    finished[tokens] = fresh[tokens]
            if len(finished) >= most:
                break
        for tokens in sorted(running, key=running.__getitem__, reverse=True):
            if len(finished) >= size:
                break
            finished[tokens] = running[tokens]
        return without_end(max(finished, key=lambda tokens: rank(tokens, finished[tokens], alpha)))


def without_end(tokens: tuple[int, ...]) -> tuple[int, ...]:
    return tokens[:-1] if tokens[-1] == END else tokens


def rank(tokens: tuple[int, ...], score: float, alpha: float | None) -> float:
    length = len(without_end(tokens))
    return score / (max(1, length) if alpha is None else ((5 + length) / 6) ** alpha)


@pytest.fixture(scope="module")
def references(random_checkpoint: Checkpoint) -> list[ReferenceSearch]:
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)
    suppressed = tuple(token for token in range(51865) if token not in (*WORDS, END))
    logit_filter = LogitFilter(VOCABULARY, GenerationConfig(suppressed, (END,), ()), False)
    states = torch.randn(6, 1500, 32, generator=torch.Generator().manual_seed(3))
    return [ReferenceSearch(network, state, logit_filter) for state in states]


def search(
    reference: ReferenceSearch, limit: int, size: int, patience: float = 1.0, alpha: float | None = None
) -> DecodingResult:
    request = DecodeRequest(reference.state, START, max_new_tokens=limit)
    return BeamSearch(reference.network, reference.logit_filter, size, patience, alpha).decode(request)


def test_beam_of_one_is_greedy(references: list[ReferenceSearch]) -> None:
    lengths = set()
    for reference in references:
        greedy, _ = decode_batch(
            reference.network, reference.state[None], torch.tensor([START]), reference.logit_filter, max_new_tokens=8
        )
        result = search(reference, 8, 1)
        assert (result.tokens, result.ended) == (greedy[0].tokens, greedy[0].ended)
        assert result.no_speech_prob == pytest.approx(greedy[0].no_speech_prob)
        for name in ("filtered_logprob", "logprob"):
            beam_value, greedy_value = getattr(result.token_stats, name), getattr(greedy[0].token_stats, name)
            assert beam_value.tolist() == pytest.approx(greedy_value.tolist(), abs=1e-3)
        lengths.add(len(result.tokens))
    assert len(lengths) > 1


def test_forced_prefix_counts_as_decoded(random_checkpoint: Checkpoint) -> None:
    """Only without a forced prefix, the next token must be a timestamp of the first second."""
    model = WhisperModel(random_checkpoint, dtype=torch.float32)
    logit_filter, begin = model.make_logit_filter(timestamps=True), VOCABULARY.timestamp_begin
    tokens = (begin, 500, 2000)
    start = (*VOCABULARY.sot_sequence("en", timestamps=True), *tokens)
    history = TokenHistory.empty(1, torch.device("cpu"))
    for token in tokens:
        history = history.append(torch.tensor([token]), begin)
    later = 0
    for state in torch.randn(4, 1500, 32, generator=torch.Generator().manual_seed(5)):
        requests = [
            DecodeRequest(state, start, forced_prefix=tokens, max_new_tokens=3),
            DecodeRequest(state, start, max_new_tokens=3),
        ]
        continued, fresh = model.make_scheduler(2, logit_filter).generate(requests)
        beam = BeamSearch(model.network, logit_filter, 1).decode(requests[0])
        with torch.inference_mode():
            memory = model.network.decoder.prefill(state[None])
            hidden = model.network.decoder(torch.tensor([start]), torch.zeros(1, dtype=torch.long), memory)[:, -1]
            slow = logit_filter.apply(model.network.decoder.logits(hidden), history).argmax(-1)
        assert continued.tokens[0] == slow.item() and beam.tokens == continued.tokens
        assert begin <= fresh.tokens[0] <= begin + 50
        later += not begin <= continued.tokens[0] <= begin + 50
    assert later


@pytest.mark.parametrize("alpha", [None, 0.0, 1.0])
def test_wide_beam_equals_exhaustive_search(references: list[ReferenceSearch], alpha: float | None) -> None:
    for reference in references[:3]:
        unfinished = [tokens for length in range(3) for tokens in product(WORDS, repeat=length)]
        every = [(*tokens, END) for tokens in unfinished] + list(product(WORDS, repeat=3))
        scores = {tokens: reference.score(tokens) for tokens in every}
        assert sum(torch.tensor(list(scores.values())).exp().tolist()) == pytest.approx(1, abs=1e-4)
        best = max(scores, key=lambda tokens: rank(tokens, scores[tokens], alpha))
        result = search(reference, 3, len(every), alpha=alpha)
        assert result.tokens == without_end(best)
        assert float(result.token_stats.filtered_logprob.sum()) == pytest.approx(scores[best], abs=1e-3)
        assert result.ended == (best[-1] == END)


@pytest.mark.parametrize("patience", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.3, 1.0])
def test_beam_search_equals_reference(references: list[ReferenceSearch], patience: float, alpha: float | None) -> None:
    for reference in references:
        for size in (2, 3, 5):
            assert search(reference, 6, size, patience, alpha).tokens == reference.search(size, patience, alpha, 6)


def test_control_width_penalty_and_patience_matter(references: list[ReferenceSearch]) -> None:
    """Otherwise the comparisons above would be vacuous."""
    plain = [search(reference, 6, 3).tokens for reference in references]
    assert plain != [search(reference, 6, 1).tokens for reference in references]
    assert plain != [search(reference, 6, 3, alpha=0.0).tokens for reference in references]
    assert [search(reference, 6, 2, 0.5).tokens for reference in references] != [
        search(reference, 6, 2, 3.0).tokens for reference in references
    ]


def test_timestamp_rules_hold(random_checkpoint: Checkpoint) -> None:
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)
    logit_filter = LogitFilter(VOCABULARY, GenerationConfig((), (220, END), ()), True)
    state = torch.randn(1500, 32, generator=torch.Generator().manual_seed(3))
    request = DecodeRequest(state, VOCABULARY.sot_sequence("en", "transcribe", True), max_new_tokens=12)
    result = BeamSearch(network, logit_filter, 4).decode(request)
    history = TokenHistory.empty(1, torch.device("cpu"))
    for token in result.tokens:
        allowed = logit_filter.apply(torch.zeros(1, 51865), history)
        assert allowed[0, token] > -torch.inf or token < VOCABULARY.timestamp_begin
        history = history.append(torch.tensor([token]), VOCABULARY.timestamp_begin)
    assert VOCABULARY.is_timestamp(result.tokens[0])
