"""Who proposes the tokens that a teacher verifies."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.rules import History, Rules
from whisperstill.decode.sampling import Draw
from whisperstill.model.cache import Slots
from whisperstill.model.decoder import Decoder

HEARD_TOGETHER = 2
"""Neighbouring encoder states that a draft hears as their mean: they differ little, being 20 ms apart, and it has half
the keys to project and to read. Of blocks of 4 tokens of base's 2-layer student as many proposals stood (0.951) as
without; of 3 or 4 states 0.941 and 0.924."""


@dataclass(frozen=True)
class Sofar:
    """What is known of each row when tokens are asked for."""

    sequence: Int[Tensor, "rows capacity"]
    """All tokens, what stands before the transcript included; behind `length` anything."""
    length: Int[Tensor, "rows"]
    history: History
    draw: Draw


class Draft(Protocol):
    """Proposes; nothing it says can change what is decoded, only how fast."""

    def put(
        self, rows: list[int], states: Float[Tensor, "new positions width"], start: Int[Tensor, "new prompt"]
    ) -> None:
        """These rows hold new windows now, with these tokens before the transcript."""
        ...

    def propose(self, sofar: Sofar, count: int) -> Int[Tensor, "rows count"]:
        """`count` tokens a row that may follow the last one."""
        ...

    def keep(self, order: Int[Tensor, "kept"]) -> None:
        """Row i is from now on what row `order[i]` was."""
        ...


class Nobody:
    """Proposes the same token always: the teacher decodes greedily, in blocks."""

    def put(
        self, rows: list[int], states: Float[Tensor, "new positions width"], start: Int[Tensor, "new prompt"]
    ) -> None:
        """Nothing to note."""

    def propose(self, sofar: Sofar, count: int) -> Int[Tensor, "rows count"]:
        """See `Draft`."""
        return sofar.length.new_zeros(len(sofar.length), count)

    def keep(self, order: Int[Tensor, "kept"]) -> None:
        """Nothing to drop."""


class StudentDraft:
    """A small network's own tokens, taken as the teacher takes its own: same rules, same noise.

    Its slots need no roll-back. `_read` says how many tokens of a row it has read; where the teacher took another token
    than proposed, or went on alone for a while, the student reads what it missed as one block.
    """

    def __init__(
        self,
        decoder: Decoder,
        size: int,
        positions: int,
        capacity: int,
        rules: Rules,
        listed: Int[Tensor, "listed"] | None,
    ) -> None:
        """`size` rows of `capacity` tokens. `listed` are the tokens it may propose, ascending; None: all of them."""
        self._decoder = decoder
        self._slots: Slots = decoder.slots(size, positions // HEARD_TOGETHER, capacity)
        self._rules = rules if listed is None else rules.among(listed)
        self._output = decoder.output(size, listed)
        self._read = torch.zeros(size, dtype=torch.long, device=rules.ids.device)

    def put(
        self, rows: list[int], states: Float[Tensor, "new positions width"], start: Int[Tensor, "new prompt"]
    ) -> None:
        """See `Draft`."""
        kept = states.shape[1] // HEARD_TOGETHER
        even = states[:, : kept * HEARD_TOGETHER]
        heard = even.reshape(len(states), kept, HEARD_TOGETHER, -1).mean(2)
        beginning = self._decoder.beginning(heard.to(self._decoder.positions.dtype))
        if start.shape[1] > 1:  # the last token is read when it is asked for what follows
            self._decoder(start[:, :-1], start.new_zeros(len(start)), beginning)
        else:
            beginning.past = []
        self._slots.put(rows, beginning)
        self._read[rows] = start.shape[1] - 1

    def propose(self, sofar: Sofar, count: int) -> Int[Tensor, "rows count"]:
        """See `Draft`."""
        rows, vocabulary = len(sofar.length), self._rules.vocabulary
        self._slots.use(rows)
        history = sofar.history.copy()
        read = torch.minimum(self._read[:rows], sofar.length - 1)
        missed = int((sofar.length - read).max())
        begin = (sofar.length - missed).clamp(min=0)
        block = sofar.sequence.gather(1, begin[:, None] + torch.arange(missed, device=begin.device))
        hidden = self._decoder(block, begin, self._slots)
        last = hidden[torch.arange(rows, device=begin.device), sofar.length - 1 - begin]
        proposed: list[Tensor] = []
        position = sofar.length
        for index in range(count):
            logits = self._rules.apply(self._output(last), history)
            tokens = sofar.draw.take(logits, position, self._rules.ids)
            history.add(tokens, vocabulary.timestamp_begin)
            proposed.append(tokens)
            if index + 1 < count:
                last = self._decoder(tokens[:, None], position, self._slots)[:, 0]
                position = position + 1
        self._read[:rows] = position
        return torch.stack(proposed, 1)

    def keep(self, order: Int[Tensor, "kept"]) -> None:
        """See `Draft`."""
        self._slots.keep(order)
        self._read[: len(order)] = self._read[order]
