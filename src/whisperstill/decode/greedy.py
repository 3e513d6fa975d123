"""Greedy decoding of a batch of windows, and what the network thought at each step.

The observation (log-sum-exp at T = 1 and 2, top-k, entropy) is read off the logits that greedy decoding computes
anyway: recording it costs no further visit of the network.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.rules import History, Rules
from whisperstill.model.cache import Slots
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

COMPACT_BELOW = 0.75
"""Rows still running, as a share of those held, below which finished rows are dropped from the slots."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the network thought at each token of its own output; the end token, where there is one, included."""

    logprob: Float[Tensor, "steps"]
    """Natural-log probability of the token taken, before any rule."""
    entropy: Float[Tensor, "steps"]
    """Nats."""
    lse1: Float[Tensor, "steps"]
    """Log-sum-exp of the logits at T = 1."""
    lse2: Float[Tensor, "steps"]
    """Log-sum-exp of half the logits (T = 2)."""
    top_ids: Int[Tensor, "steps k"]
    top_logits: Float[Tensor, "steps k"]
    hidden: Float[Tensor, "steps width"]
    """Normalised last hidden state, from which the logits are."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Greedy output for one window."""

    tokens: tuple[int, ...]
    """Without start and end tokens; timestamps where the rules ask for them."""
    ended: bool
    """Whether the network ended by itself."""
    no_speech: float
    """Probability of <|nospeech|> where a transcript would begin."""
    observed: Observed


def observe(
    logits: Float[Tensor, "rows vocab"], room: Float[Tensor, "rows vocab"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Log-sum-exp at T = 1 and at T = 2, and entropy, by one exponential: exp(l / 2) squared is exp(l).

    `room` is overwritten.
    """
    largest = logits.amax(-1, keepdim=True)
    half = torch.sub(logits, largest, out=room).mul_(0.5).exp_()
    sum2 = half.sum(-1)
    whole = half.mul_(half)
    sum1 = whole.sum(-1)
    lse1 = largest[:, 0] + sum1.log()
    return lse1, largest[:, 0] / 2 + sum2.log(), lse1 - torch.linalg.vecdot(whole, logits) / sum1


class _Record:
    """Per row and step, what is observed."""

    def __init__(self, batch: int, steps: int, top: int, network: Whisper) -> None:
        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(batch, steps, *shape, dtype=dtype, device=network.device)

        self.tokens = empty(dtype=torch.long)
        self.logprob, self.entropy, self.lse1, self.lse2 = (empty() for _ in range(4))
        self.top_ids, self.top_logits = empty(top, dtype=torch.long), empty(top)
        self.hidden = empty(network.dims.width)
        self.top = top
        self._room = torch.empty(batch, network.dims.vocab, device=network.device)

    def distribution(self, rows: Tensor, step: int, logits: Tensor, hidden: Tensor) -> None:
        """Before any rule."""
        room = self._room[: len(rows)]
        if self.top:
            self.lse1[rows, step], self.lse2[rows, step], self.entropy[rows, step] = observe(logits, room)
            self.top_logits[rows, step], self.top_ids[rows, step] = logits.topk(self.top, dim=-1)
            self.hidden[rows, step] = hidden.float()
        else:
            largest = logits.amax(-1, keepdim=True)
            self.lse1[rows, step] = torch.sub(logits, largest, out=room).exp_().sum(-1).log() + largest[:, 0]

    def choice(self, rows: Tensor, step: int, logits: Tensor, tokens: Tensor) -> None:
        """After all rules, which leave the logit of what they let through as it was."""
        self.tokens[rows, step] = tokens
        self.logprob[rows, step] = logits.gather(1, tokens[:, None])[:, 0] - self.lse1[rows, step]

    def row(self, row: int, steps: int) -> Observed:
        return Observed(
            *(
                field[row, :steps].cpu()
                for field in (
                    self.logprob,
                    self.entropy,
                    self.lse1,
                    self.lse2,
                    self.top_ids,
                    self.top_logits,
                    self.hidden,
                )
            )
        )


@torch.inference_mode()
def greedy(
    network: Whisper,
    states: Float[Tensor, "batch positions width"],
    start: Int[Tensor, "batch prompt"],
    rules: Rules,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    top: int = 0,
) -> list[Decoded]:
    """The most probable token at each step, until <|endoftext|> or `max_new_tokens`.

    `start` holds the tokens before the transcript: an optional prompt, then <|startoftranscript|> and what follows
    it; all rows have the same length. With `top = k > 0` entropy, top-k, log-sum-exps and hidden states are
    recorded as well.
    """
    vocabulary = rules.vocabulary
    batch, prompt = start.shape
    limit = max(1, min(max_new_tokens, network.dims.tokens - prompt))
    slots: Slots = network.decoder.slots(states, prompt + limit)
    position = torch.zeros(batch, dtype=torch.long, device=network.device)
    hidden = network.decoder(start, position, slots)
    begin = int((start[0] == vocabulary.start_of_transcript).nonzero()[-1])
    silence = network.decoder.logits(hidden[:, begin]).softmax(-1)[:, vocabulary.no_speech]
    last = hidden[:, -1]

    record = _Record(batch, limit, top, network)
    output = network.decoder.output(batch)
    length = torch.full((batch,), limit, dtype=torch.long)
    ended = torch.zeros(batch, dtype=torch.bool)
    history = History.empty(batch, network.device)
    rows = torch.arange(batch, device=network.device)  # which window each slot holds
    running = torch.ones(batch, dtype=torch.bool, device=network.device)
    position += prompt
    for step in range(limit):
        logits = output(last)
        # Rows that are over and not yet dropped are noted, too: beyond their length, where nobody looks.
        record.distribution(rows, step, logits, last)
        tokens = rules.apply(logits, history).argmax(-1)
        record.choice(rows, step, logits, tokens)
        history.add(tokens, vocabulary.timestamp_begin)
        over = running & (tokens == vocabulary.end_of_text)
        if over.any():
            done = rows[over].cpu()
            length[done], ended[done] = step + 1, True
            running = running & ~over
            left = int(running.sum())
            if left == 0:
                break
            if left <= COMPACT_BELOW * len(rows):
                kept = slots.keep(running.nonzero()[:, 0])
                history.keep(kept)
                rows, tokens, position, running = rows[kept], tokens[kept], position[kept], running[kept]
        if step + 1 < limit:
            last = network.decoder(tokens[:, None], position, slots)[:, 0]
            position = position + 1

    results = []
    for row in range(batch):
        steps = int(length[row])
        said = record.tokens[row, :steps].tolist()
        if ended[row]:
            said.pop()
        results.append(Decoded(tuple(said), bool(ended[row]), float(silence[row]), record.row(row, steps)))
    return results


@torch.inference_mode()
def detect_languages(
    network: Whisper, states: Float[Tensor, "batch positions width"], rules: Rules
) -> list[tuple[str, float]]:
    """The most probable language of each window and its probability among all languages."""
    vocabulary = rules.vocabulary
    if not vocabulary.multilingual:
        return [("en", 1.0)] * len(states)
    start = torch.full((len(states), 1), vocabulary.start_of_transcript, device=network.device)
    position = torch.zeros(len(states), dtype=torch.long, device=network.device)
    hidden = network.decoder(start, position, network.decoder.forced(states))[:, 0]
    codes = list(vocabulary.languages)
    ids = torch.tensor([vocabulary.languages[code] for code in codes], device=network.device)
    probability, best = network.decoder.logits(hidden)[:, ids].softmax(-1).max(-1)
    return [(codes[index], p) for index, p in zip(best.tolist(), probability.tolist(), strict=True)]
