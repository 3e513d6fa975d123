"""Whisper's logit rules, vectorised over rows that may be at different positions.

As openai/whisper defines them: suppression, suppression at the beginning, and with timestamps: pairs (a segment's
end is followed by the next one's start), monotone, a largest first timestamp, and a timestamp whenever all
timestamps together are more probable than any single text token.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.model.generation import Generation
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import TIMESTAMP_SECONDS

MAX_INITIAL_TIMESTAMP = 1.0
"""Seconds: a transcript may not begin later than this (openai/whisper's default)."""


@dataclass
class History:
    """What the rules need to know of each row's output so far."""

    count: Int[Tensor, "rows"]
    last: Int[Tensor, "rows"]
    penultimate: Int[Tensor, "rows"]
    timestamp: Int[Tensor, "rows"]
    """Last timestamp token of the row; 0 when there was none."""

    def __iter__(self) -> Iterator[Int[Tensor, "rows"]]:
        return iter((self.count, self.last, self.penultimate, self.timestamp))

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "History":
        """Nothing yet."""
        return cls(*(torch.zeros(rows, dtype=torch.long, device=device) for _ in range(4)))

    @classmethod
    def at(cls, steps: Sequence["History"], index: Int[Tensor, "rows"]) -> "History":
        """Of each row what was known after `index[row]` of these steps."""
        return cls(*(torch.stack(field).gather(0, index[None])[0] for field in zip(*steps, strict=True)))

    def along(self, tokens: Int[Tensor, "rows more"], timestamp_begin: int) -> list["History"]:
        """What is known now, and after each of these tokens."""
        steps = [self]
        for column in tokens.unbind(1):
            steps.append(steps[-1].with_next(column, timestamp_begin))
        return steps

    @classmethod
    def rows(cls, steps: Sequence["History"]) -> "History":
        """Row by row all of these steps: row 0 at every step, row 1 at every step ..."""
        return cls(*(torch.stack(field, 1).flatten() for field in zip(*steps, strict=True)))

    def with_next(self, tokens: Int[Tensor, "rows"], timestamp_begin: int) -> "History":
        """Another one that knows one more token a row."""
        more = self.copy()
        more.add(tokens, timestamp_begin)
        return more

    def put(self, rows: list[int], size: int) -> None:
        """Rows that begin anew; there are `size` rows afterwards."""
        begun = []
        for old in self:
            tensor = old.new_zeros(size)
            tensor[: len(old)] = old
            tensor[rows] = 0
            begun.append(tensor)
        self.count, self.last, self.penultimate, self.timestamp = begun

    def say(self, row: int, tokens: Sequence[int], timestamp_begin: int) -> None:
        """What one row, which begins anew, has said already."""
        for token in tokens:
            self.penultimate[row], self.last[row] = self.last[row].clone(), token
            self.count[row] += 1
            if token >= timestamp_begin:
                self.timestamp[row] = token

    def add(self, tokens: Int[Tensor, "rows"], timestamp_begin: int) -> None:
        """Note one more token a row."""
        self.timestamp = torch.where(tokens >= timestamp_begin, tokens, self.timestamp)
        self.penultimate, self.last = self.last, tokens
        self.count = self.count + 1

    def copy(self) -> "History":
        """Another one that knows the same (`add` and `keep` put new tensors in place of the old)."""
        return History(*self)

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """Drop all rows but these."""
        self.count, self.last, self.penultimate, self.timestamp = (field[rows] for field in self)


class Rules:
    """Which tokens may come next."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        generation: Generation,
        timestamps: bool,
        device: torch.device | str = "cpu",
        max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP,
    ) -> None:
        self.vocabulary = vocabulary
        self.timestamps = timestamps
        size = vocabulary.size
        suppress = [token for token in {*generation.suppress, *vocabulary.never_said} if token < size]
        if timestamps:
            suppress.append(vocabulary.no_timestamps)
        self._suppress: Int[Tensor, "suppressed"] = torch.tensor(suppress, dtype=torch.long, device=device)
        begin = [token for token in generation.begin_suppress if token < size]
        self._begin: Int[Tensor, "suppressed"] = torch.tensor(begin, dtype=torch.long, device=device)
        self.ids: Int[Tensor, "vocab"] = torch.arange(size, device=device)
        """The token of each logit."""
        self._texts = vocabulary.timestamp_begin  # the logits before are no timestamps
        self._last_initial = vocabulary.timestamp_begin + round(max_initial_timestamp / TIMESTAMP_SECONDS)

    def among(self, ids: Int[Tensor, "listed"]) -> "Rules":
        """The same rules for logits of some tokens only, in ascending order.

        Raises `ValueError` where the end of text is not among them: nothing would end.
        """
        if not (ids == self.vocabulary.end_of_text).any():
            raise ValueError(f"the end of text ({self.vocabulary.end_of_text}) must be among the tokens")
        listed = copy(self)
        listed.ids, listed._texts = ids, int((ids < self.vocabulary.timestamp_begin).sum())
        listed._suppress = torch.isin(ids, self._suppress).nonzero()[:, 0]
        listed._begin = torch.isin(ids, self._begin).nonzero()[:, 0]
        return listed

    def apply(self, logits: Float[Tensor, "rows vocab"], history: History) -> Float[Tensor, "rows vocab"]:
        """Set the logits of what may not come to minus infinity, in place."""
        logits.index_fill_(1, self._suppress, -torch.inf)
        first = (history.count == 0)[:, None]
        logits[:, self._begin] = logits[:, self._begin].masked_fill(first, -torch.inf)
        if self.timestamps:
            logits.masked_fill_(self._barred_by_timestamps(history), -torch.inf)
            together = logits[:, self._texts :].logsumexp(-1)
            best_text = logits[:, : self._texts].amax(-1)
            logits[:, : self._texts].masked_fill_((together > best_text)[:, None], -torch.inf)
        return logits

    def _barred_by_timestamps(self, history: History) -> Bool[Tensor, "rows vocab"]:
        begin, end_of_text = self.vocabulary.timestamp_begin, self.vocabulary.end_of_text
        first = history.count == 0
        last_is_time = ~first & (history.last >= begin)
        pair_is_open = last_is_time & (history.count > 1) & (history.penultimate < begin)
        pair_is_closed = last_is_time & ~pair_is_open
        is_time = self.ids >= begin
        barred = pair_is_closed[:, None] & is_time
        barred = barred | (pair_is_open[:, None] & (self.ids < end_of_text))
        # A segment's end may be repeated as the next one's start; otherwise time must move on.
        least = torch.where(pair_is_open, history.timestamp, history.timestamp + 1)
        barred = barred | (is_time & (history.timestamp > 0)[:, None] & (self.ids < least[:, None]))
        return barred | (first[:, None] & (~is_time | (self.ids > self._last_initial)))
