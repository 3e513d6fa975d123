"""Beam search: several hypotheses of one window followed side by side, as openai/whisper does it.

At each step every hypothesis is continued by its `beam_size + 1` most probable tokens; of all continuations, best
first, those that end are finished until `beam_size` others are found, which go on. It is over when `beam_size *
patience` hypotheses are finished.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.observed import Decoded, Observed, silences
from whisperstill.decode.rules import History, Rules
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    """Sum of the log-probabilities among allowed tokens."""
    allowed: tuple[float, ...] = ()
    logprob: tuple[float, ...] = ()
    row: int = 0
    """Where the network read the tokens before the last."""

    def longer(self, token: int, allowed: float, logprob: float, row: int) -> "_Hypothesis":
        return _Hypothesis(
            (*self.tokens, token), self.score + allowed, (*self.allowed, allowed), (*self.logprob, logprob), row
        )


@torch.inference_mode()
def beam_search(
    network: Whisper,
    state: Float[Tensor, "positions width"],
    start: tuple[int, ...],
    rules: Rules,
    *,
    beam_size: int,
    patience: float = 1.0,
    length_penalty: float | None = None,
    said: tuple[int, ...] = (),
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Decoded:
    """The best hypothesis of one window: log-probability over its length, or over the penalty of that length.

    `start` are the tokens before the transcript; after those of them that are `said`, its last ones, the rules go on as
    if the network had said them. Raises `ValueError` for a beam or a patience below 1 hypothesis,
    and for a start that fills all tokens.
    """
    enough = round(beam_size * patience)
    if beam_size < 1 or enough < 1:
        raise ValueError(f"beam_size and beam_size * patience must be at least 1, got {beam_size} and {patience:g}")
    vocabulary, device = rules.vocabulary, network.device
    end, prompt = vocabulary.end_of_text, len(start)
    if prompt >= network.dims.tokens:
        raise ValueError(f"{prompt} tokens before a transcript leave no room among {network.dims.tokens}")
    limit = max(1, min(max_new_tokens, network.dims.tokens - prompt))
    beginning = network.decoder.beginning(state[None])
    before = torch.tensor([start], device=device)
    hidden = network.decoder(before, before.new_zeros(1), beginning)
    silence = float(silences(network, hidden, before, vocabulary))
    slots = network.decoder.slots(beam_size, len(state), prompt + limit)
    slots.put(list(range(beam_size)), beginning)
    output = network.decoder.output(beam_size)
    last = hidden[:, -1]
    running, finished = [_Hypothesis()], list[_Hypothesis]()
    history = History.empty(1, device)
    history.say(0, said, vocabulary.timestamp_begin)
    for step in range(limit):
        raw = output(last)
        whole = raw.logsumexp(-1)
        allowed = rules.apply(raw, history).log_softmax(-1)
        scores, tokens = allowed.topk(beam_size + 1, dim=-1)
        logprobs = raw.gather(1, tokens) - whole[:, None]
        grown = [
            one.longer(token, score, logprob, row)
            for row, (one, *found) in enumerate(
                zip(running, tokens.tolist(), scores.tolist(), logprobs.tolist(), strict=True)
            )
            for token, score, logprob in zip(*found, strict=True)
            if score > -torch.inf
        ]
        running = []
        for one in sorted(grown, key=lambda one: -one.score):
            if one.tokens[-1] != end:
                running.append(one)
            elif len(finished) < enough:
                finished.append(one)
            if len(running) == beam_size:
                break
        if len(finished) >= enough or step + 1 == limit or not running:
            break
        order = torch.tensor([one.row for one in running], device=device)
        history.keep(order)
        fresh = torch.tensor([one.tokens[-1] for one in running], device=device)
        history.add(fresh, vocabulary.timestamp_begin)
        slots.reorder(order)
        last = network.decoder(fresh[:, None], torch.full_like(fresh, prompt + step), slots)[:, 0]
    finished += sorted(running, key=lambda one: -one.score)[: max(0, beam_size - len(finished))]

    def rank(one: _Hypothesis) -> float:
        return for_its_length(one.score, len(one.tokens) - (one.tokens[-1] == end), length_penalty)

    return _decoded(max(finished, key=rank), end, silence)


def for_its_length(total: float, length: int, length_penalty: float | None) -> float:
    """A log-probability by which results of different lengths are compared: over the length, or over its penalty."""
    return total / (max(1, length) if length_penalty is None else ((5 + length) / 6) ** length_penalty)


def _decoded(best: _Hypothesis, end: int, silence: float) -> Decoded:
    ended = best.tokens[-1] == end
    steps = len(best.tokens)
    none, empty = torch.zeros(steps), torch.zeros(steps, 0)
    logprob, allowed = torch.tensor(best.logprob), torch.tensor(best.allowed)
    observed = Observed(logprob, none, none, none, empty.long(), empty, empty, allowed)
    return Decoded(best.tokens[: steps - ended], ended, silence, observed)
