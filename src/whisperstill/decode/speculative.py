"""Speculative decoding of a batch: a draft proposes, the teacher verifies a block at a time; the output is its own.

Whatever is proposed, a row's output is what greedy decoding gives it: token i of a block stands only if every token
before it is the teacher's own choice, made under the same rules. At least one token a block is new, since the
teacher's choice after the last accepted one is known as well. Rows accept as they please: each has its own position,
a rejected token is overwritten by the next block, and nobody waits for the worst (the roll-back of a batch to its
shortest row is what makes the method of the paper slower than greedy at batch 16).

A block's logits and a single token's differ by rounding. In float32 (about 5e-6) the tokens are equal; in bf16 (about
4e-2) two nearly equal logits may change places, as they may between any two batches of greedy decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.drafts import Draft
from whisperstill.decode.greedy import COMPACT_BELOW, prefill
from whisperstill.decode.observed import Decoded, Record
from whisperstill.decode.rules import History, Rules
from whisperstill.model.cache import Slots
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

BLOCK = 8
"""Tokens a verification reads: float32 products of 8 rows cost twice a single one, those of 3 three times."""


@dataclass(slots=True)
class Speculation:
    """What was proposed and what became of it, over all rows."""

    verifications: int = 0
    """Blocks that a row was read in."""
    proposed: int = 0
    accepted: int = 0
    tokens: int = 0
    """Decoded, end tokens included."""

    def __add__(self, other: "Speculation") -> "Speculation":
        return Speculation(
            self.verifications + other.verifications,
            self.proposed + other.proposed,
            self.accepted + other.accepted,
            self.tokens + other.tokens,
        )

    @property
    def acceptance(self) -> float:
        """Share of the proposed tokens that stand."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_per_verification(self) -> float:
        """1 for greedy decoding."""
        return self.tokens / max(1, self.verifications)


@torch.inference_mode()
def speculative(
    teacher: Whisper,
    states: Float[Tensor, "batch positions width"],
    start: Int[Tensor, "batch prompt"],
    rules: Rules,
    draft: Callable[[int], Draft],
    *,
    block: int = BLOCK,
    max_new_tokens: int = MAX_NEW_TOKENS,
    top: int = 0,
) -> tuple[list[Decoded], Speculation]:
    """What `greedy` gives for the teacher, and what the draft did for it.

    `draft` makes the proposer, told how many slots a row needs. `start`, `top` and `max_new_tokens` as in `greedy`.
    Raises `ValueError` for a block below 1.
    """
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    vocabulary = rules.vocabulary
    batch, prompt = start.shape
    limit = max(1, min(max_new_tokens, teacher.dims.tokens - prompt))
    capacity = min(prompt + limit + block, teacher.dims.tokens)
    slots: Slots = teacher.decoder.slots(states, capacity)
    _, silence = prefill(teacher, start, slots, vocabulary)
    proposer = draft(capacity)
    record = Record(batch, limit + block, top, teacher)
    output = teacher.decoder.output(batch)
    counts = Speculation()

    device = start.device
    length = torch.full((batch,), limit, dtype=torch.long)
    ended = torch.zeros(batch, dtype=torch.bool)
    history = History.empty(batch, device)
    rows = torch.arange(batch, device=device)
    context = start[:, -2:]
    step = torch.zeros(batch, dtype=torch.long, device=device)  # tokens each row has
    running = torch.ones(batch, dtype=torch.bool, device=device)
    while True:
        position = prompt - 1 + step  # of the last token so far: it is read again, before what may follow it
        size = min(block, capacity - int(position.max()))
        proposed = context[:, :0]
        if size > 1:
            proposed = proposer.propose(context, position - (context.shape[1] - 1), history.copy(), size - 1)
        hidden = teacher.decoder(torch.cat((context[:, -1:], proposed), 1), position, slots)
        # Token i is chosen under the rules for the teacher's own tokens before it: where those are not the proposed
        # ones, it does not count anyway.
        chosen, histories = [], [history]
        for index in range(size):
            logits = output(hidden[:, index])
            record.distribution(rows, step + index, logits, hidden[:, index])
            tokens = rules.apply(logits, histories[-1]).argmax(-1)
            record.choice(rows, step + index, logits, tokens)
            chosen.append(tokens)
            histories.append(histories[-1].copy())
            histories[-1].add(tokens, vocabulary.timestamp_begin)
        choice = torch.stack(chosen, 1)
        agreed = (choice[:, :-1] == proposed).long().cumprod(1).sum(1)
        is_end = choice == vocabulary.end_of_text
        until_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, size + 1)
        taken = torch.minimum(torch.minimum(agreed + 1, until_end), limit - step) * running

        counts.verifications += int(running.sum())
        counts.proposed += int(running.sum()) * (size - 1)
        counts.accepted += int(torch.minimum(agreed, taken).sum())
        counts.tokens += int(taken.sum())
        at = (taken + context.shape[1] - 2)[:, None] + torch.arange(2, device=device)
        context = torch.cat((context, choice), 1).gather(1, at)
        history = History.at(histories, taken)
        step = step + taken
        over = running & ((until_end <= taken) | (step >= limit))
        if over.any():
            done = rows[over].cpu()
            length[done], ended[done] = step[over].cpu(), (until_end <= taken)[over].cpu()
            running = running & ~over
            left = int(running.sum())
            if left == 0:
                break
            if left <= COMPACT_BELOW * len(rows):
                kept = slots.keep(running.nonzero()[:, 0])
                proposer.keep(kept)
                history.keep(kept)
                rows, step, context, running = rows[kept], step[kept], context[kept], running[kept]
    return record.decoded(length, ended, silence), counts
