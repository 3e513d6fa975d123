"""Beam search = a search that computes every sequence anew, and with a beam wide enough the search of all sequences."""

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
SAYS = (11, 500, 2000, 7000)
"""The only text that these rules let through."""
START = VOCABULARY.sot_sequence("en")


class World:
    """A network that may say few words, and what it makes of every sequence of them, one after the other."""

    def __init__(self, network: Whisper, state: Tensor, rules: LogitFilter) -> None:
        self.network, self.state, self.rules = network, state, rules
        self.next = cache(self._next)

    @torch.inference_mode()
    def _next(self, said: tuple[int, ...]) -> dict[int, float]:
        """Log-probability of what may follow."""
        history = TokenHistory.empty(1, torch.device("cpu"))
        for token in said:
            history.append(torch.tensor([token]), VOCABULARY.timestamp_begin)
        memory = self.network.decoder.teacher_forced(self.state[None])
        tokens = torch.tensor([[*START, *said]])
        hidden = self.network.decoder(tokens, torch.zeros(1, dtype=torch.long), memory)[:, -1]
        logprobs = self.rules.apply(self.network.decoder.logits(hidden), history).log_softmax(-1)[0]
        return {token: float(logprobs[token]) for token in (*SAYS, END) if logprobs[token] > -torch.inf}

    def score(self, said: tuple[int, ...]) -> float:
        """Of a whole sequence; minus infinity where the rules bar it."""
        return sum(self.next(said[:at]).get(token, -torch.inf) for at, token in enumerate(said))

    def search(self, size: int, patience: float, alpha: float | None, limit: int) -> tuple[int, ...]:
        """openai/whisper's order, with dictionaries."""
        running: dict[tuple[int, ...], float] = {(): 0.0}
        finished: dict[tuple[int, ...], float] = {}
        most = round(size * patience)
        for _ in range(limit):
            scores = {}
            for said, score in running.items():
                best = sorted(self.next(said).items(), key=lambda pair: -pair[1])[: size + 1]
                scores |= {(*said, token): score + more for token, more in best}
            running, fresh = {}, {}
            for said in sorted(scores, key=scores.__getitem__, reverse=True):
                if said[-1] == END:
                    fresh[said] = scores[said]
                else:
                    running[said] = scores[said]
                    if len(running) == size:
                        break
            for said in fresh:
                if len(finished) < most:
                    finished[said] = fresh[said]
            if len(finished) >= most:
                break
        for said in sorted(running, key=running.__getitem__, reverse=True):
            if len(finished) >= size:
                break
            finished[said] = running[said]
        return without_end(max(finished, key=lambda said: ranked(said, finished[said], alpha)))


def without_end(said: tuple[int, ...]) -> tuple[int, ...]:
    return said[:-1] if said[-1] == END else said


def ranked(said: tuple[int, ...], score: float, alpha: float | None) -> float:
    length = len(without_end(said))
    return score / (max(1, length) if alpha is None else ((5 + length) / 6) ** alpha)


@pytest.fixture(scope="module")
def worlds(random_checkpoint: Checkpoint) -> list[World]:
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)
    barred = tuple(token for token in range(51865) if token not in (*SAYS, END))
    rules = LogitFilter(VOCABULARY, GenerationConfig(barred, (END,), ()), False)
    states = torch.randn(6, 1500, 32, generator=torch.Generator().manual_seed(3))
    return [World(network, state, rules) for state in states]


def searched(world: World, limit: int, size: int, patience: float = 1.0, alpha: float | None = None) -> DecodingResult:
    request = DecodeRequest(world.state, START, max_new_tokens=limit)
    return BeamSearch(world.network, world.rules, size, patience, alpha).decode(request)


def test_a_beam_of_one_is_greedy(worlds: list[World]) -> None:
    lengths = set()
    for world in worlds:
        greedy, _ = decode_batch(world.network, world.state[None], torch.tensor([START]), world.rules, max_new_tokens=8)
        found = searched(world, 8, 1)
        assert (found.tokens, found.ended) == (greedy[0].tokens, greedy[0].ended)
        assert found.no_speech_prob == pytest.approx(greedy[0].no_speech_prob)
        for name in ("filtered_logprob", "logprob"):
            mine, theirs = getattr(found.token_stats, name), getattr(greedy[0].token_stats, name)
            assert mine.tolist() == pytest.approx(theirs.tolist(), abs=1e-3)
        lengths.add(len(found.tokens))
    assert len(lengths) > 1


def test_after_what_was_said_the_rules_go_on(random_checkpoint: Checkpoint) -> None:
    """With timestamps a transcript must begin with one of the first second's; one that was begun need not."""
    recogniser = WhisperModel(random_checkpoint, dtype=torch.float32)
    rules, begin = recogniser.make_logit_filter(timestamps=True), VOCABULARY.timestamp_begin
    said = (begin, 500, 2000)
    start = (*VOCABULARY.sot_sequence("en", timestamps=True), *said)
    history = TokenHistory.empty(1, torch.device("cpu"))
    for token in said:
        history.append(torch.tensor([token]), begin)
    later = 0
    for state in torch.randn(4, 1500, 32, generator=torch.Generator().manual_seed(5)):
        jobs = [
            DecodeRequest(state, start, forced_prefix=said, max_new_tokens=3),
            DecodeRequest(state, start, max_new_tokens=3),
        ]
        going_on, anew = recogniser.make_generator(2, logit_filter=rules).generate(jobs)
        beam = BeamSearch(recogniser.network, rules, 1).decode(jobs[0])
        with torch.inference_mode():
            memory = recogniser.network.decoder.teacher_forced(state[None])
            hidden = recogniser.network.decoder(torch.tensor([start]), torch.zeros(1, dtype=torch.long), memory)[:, -1]
            slow = rules.apply(recogniser.network.decoder.logits(hidden), history).argmax(-1)
        assert going_on.tokens[0] == slow.item() and beam.tokens == going_on.tokens
        assert begin <= anew.tokens[0] <= begin + 50
        later += not begin <= going_on.tokens[0] <= begin + 50
    assert later


@pytest.mark.parametrize("alpha", [None, 0.0, 1.0])
def test_a_beam_wide_enough_finds_the_best_of_all(worlds: list[World], alpha: float | None) -> None:
    for world in worlds[:3]:
        whole = [said for length in range(3) for said in product(SAYS, repeat=length)]
        every = [(*said, END) for said in whole] + list(product(SAYS, repeat=3))
        scores = {said: world.score(said) for said in every}
        assert sum(torch.tensor(list(scores.values())).exp().tolist()) == pytest.approx(1, abs=1e-4)
        best = max(scores, key=lambda said: ranked(said, scores[said], alpha))
        found = searched(world, 3, len(every), alpha=alpha)
        assert found.tokens == without_end(best)
        assert float(found.token_stats.filtered_logprob.sum()) == pytest.approx(scores[best], abs=1e-3)
        assert found.ended == (best[-1] == END)


@pytest.mark.parametrize("patience", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.3, 1.0])
def test_it_searches_in_the_order_of_its_slow_twin(worlds: list[World], patience: float, alpha: float | None) -> None:
    for world in worlds:
        for size in (2, 3, 5):
            assert searched(world, 6, size, patience, alpha).tokens == world.search(size, patience, alpha, 6)


def test_width_penalty_and_patience_matter(worlds: list[World]) -> None:
    """Else all the comparisons above would compare the same thing."""
    plain = [searched(world, 6, 3).tokens for world in worlds]
    assert plain != [searched(world, 6, 1).tokens for world in worlds]
    assert plain != [searched(world, 6, 3, alpha=0.0).tokens for world in worlds]
    assert [searched(world, 6, 2, 0.5).tokens for world in worlds] != [
        searched(world, 6, 2, 3.0).tokens for world in worlds
    ]


def test_rules_of_timestamps_hold_on_every_path(random_checkpoint: Checkpoint) -> None:
    network = Whisper.from_state(random_checkpoint.dims, random_checkpoint.state)
    rules = LogitFilter(VOCABULARY, GenerationConfig((), (220, END), ()), True)
    state = torch.randn(1500, 32, generator=torch.Generator().manual_seed(3))
    request = DecodeRequest(state, VOCABULARY.sot_sequence("en", "transcribe", True), max_new_tokens=12)
    found = BeamSearch(network, rules, 4).decode(request)
    history = TokenHistory.empty(1, torch.device("cpu"))
    for token in found.tokens:
        allowed = rules.apply(torch.zeros(1, 51865), history)
        assert allowed[0, token] > -torch.inf or token < VOCABULARY.timestamp_begin
        history.append(torch.tensor([token]), VOCABULARY.timestamp_begin)
    assert VOCABULARY.is_timestamp(found.tokens[0])


def test_a_beam_without_hypotheses_is_refused(worlds: list[World]) -> None:
    for size, patience in ((0, 1.0), (2, 0.1)):
        with pytest.raises(ValueError, match="must be at least 1"):
            searched(worlds[0], 3, size, patience)
