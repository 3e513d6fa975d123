"""Who proposes the tokens that a teacher verifies."""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.rules import History, Rules
from whisperstill.model.cache import Slots
from whisperstill.model.whisper import Whisper


class Draft(Protocol):
    """Proposes; nothing it says can change what is decoded, only how fast."""

    def propose(
        self, context: Int[Tensor, "rows known"], position: Int[Tensor, "rows"], history: History, count: int
    ) -> Int[Tensor, "rows count"]:
        """`count` tokens a row that may follow `context`, its last tokens so far: two, or one where there is but one.

        The first of them stands at `position`. `history` is the proposer's to change.
        """
        ...

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """Row i is from now on what row `rows[i]` was (in the order that `Slots.keep` gives)."""
        ...


class Nobody:
    """Proposes the same token always: the teacher decodes greedily, in blocks."""

    def propose(
        self, context: Int[Tensor, "rows known"], position: Int[Tensor, "rows"], history: History, count: int
    ) -> Int[Tensor, "rows count"]:
        """See `Draft`."""
        return context.new_zeros(len(context), count)

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """Nothing to drop."""


class StudentDraft:
    """A small network's own greedy tokens, under the teacher's rules.

    Its slots need no roll-back: it begins each round by reading the last two tokens that the teacher let stand. Two,
    because where all it proposed was accepted, it has not yet read the last of its own.
    """

    def __init__(
        self,
        network: Whisper,
        states: Float[Tensor, "rows positions width"],
        start: Int[Tensor, "rows prompt"],
        rules: Rules,
        capacity: int,
    ) -> None:
        self._network, self._rules = network, rules
        self._slots = Slots(network.decoder.project(states), capacity)
        self._output = network.decoder.output(len(states))
        network.decoder(start, torch.zeros(len(start), dtype=torch.long, device=start.device), self._slots)

    def propose(
        self, context: Int[Tensor, "rows known"], position: Int[Tensor, "rows"], history: History, count: int
    ) -> Int[Tensor, "rows count"]:
        """See `Draft`."""
        decoder, proposed = self._network.decoder, []
        last = decoder(context, position, self._slots)[:, -1]
        position = position + context.shape[1]
        for index in range(count):
            tokens = self._rules.apply(self._output(last), history).argmax(-1)
            history.add(tokens, self._rules.vocabulary.timestamp_begin)
            proposed.append(tokens)
            if index + 1 < count:
                last = decoder(tokens[:, None], position, self._slots)[:, 0]
                position = position + 1
        return torch.stack(proposed, 1)

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """See `Draft`."""
        self._slots.keep(rows)
