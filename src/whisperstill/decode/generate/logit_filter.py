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

from whisperstill.model.generation_config import GenerationConfig
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import TIMESTAMP_STEP_SECONDS

MAX_INITIAL_TIMESTAMP_S = 1.0
"""Seconds: a transcript may not begin later than this (openai/whisper's default)."""


@dataclass
class TokenHistory:
    """What the rules need to know of each row's output so far."""

    num_tokens: Int[Tensor, "rows"]
    last_token: Int[Tensor, "rows"]
    penultimate_token: Int[Tensor, "rows"]
    last_timestamp: Int[Tensor, "rows"]
    """Last timestamp token of the row; 0 when there was none."""

    def __iter__(self) -> Iterator[Int[Tensor, "rows"]]:
        return iter((self.num_tokens, self.last_token, self.penultimate_token, self.last_timestamp))

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "TokenHistory":
        """Nothing yet."""
        return cls(*(torch.zeros(rows, dtype=torch.long, device=device) for _ in range(4)))

    @classmethod
    def gather(cls, steps: Sequence["TokenHistory"], index: Int[Tensor, "rows"]) -> "TokenHistory":
        """Of each row what was known after `index[row]` of these steps."""
        return cls(*(torch.stack(field).gather(0, index[None])[0] for field in zip(*steps, strict=True)))

    def after_each(self, tokens: Int[Tensor, "rows more"], timestamp_begin: int) -> list["TokenHistory"]:
        """What is known now, and after each of these tokens."""
        steps = [self]
        for next_tokens in tokens.unbind(1):
            steps.append(steps[-1].appended(next_tokens, timestamp_begin))
        return steps

    @classmethod
    def flatten(cls, steps: Sequence["TokenHistory"]) -> "TokenHistory":
        """Row by row all of these steps: row 0 at every step, row 1 at every step ..."""
        return cls(*(torch.stack(field, 1).flatten() for field in zip(*steps, strict=True)))

    def appended(self, tokens: Int[Tensor, "rows"], timestamp_begin: int) -> "TokenHistory":
        """Another one that knows one more token a row."""
        history = self.copy()
        history.append(tokens, timestamp_begin)
        return history

    def reset_rows(self, rows: list[int], num_rows: int) -> None:
        """Rows that begin anew; there are `size` rows afterwards."""
        resized = []
        for values in self:
            tensor = values.new_zeros(num_rows)
            tensor[: len(values)] = values
            tensor[rows] = 0
            resized.append(tensor)
        self.num_tokens, self.last_token, self.penultimate_token, self.last_timestamp = resized

    def prime(self, row: int, tokens: Sequence[int], timestamp_begin: int) -> None:
        """What one row, which begins anew, has said already."""
        for token in tokens:
            self.penultimate_token[row], self.last_token[row] = self.last_token[row].clone(), token
            self.num_tokens[row] += 1
            if token >= timestamp_begin:
                self.last_timestamp[row] = token

    def append(self, tokens: Int[Tensor, "rows"], timestamp_begin: int) -> None:
        """Note one more token a row."""
        self.last_timestamp = torch.where(tokens >= timestamp_begin, tokens, self.last_timestamp)
        self.penultimate_token, self.last_token = self.last_token, tokens
        self.num_tokens = self.num_tokens + 1

    def copy(self) -> "TokenHistory":
        """Another one that knows the same (`add` and `keep` put new tensors in place of the old)."""
        return TokenHistory(*self)

    def select_rows(self, rows: Int[Tensor, "selected"]) -> None:
        """Drop all rows but these."""
        self.num_tokens, self.last_token, self.penultimate_token, self.last_timestamp = (field[rows] for field in self)


class LogitFilter:
    """Which tokens may come next."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        generation_config: GenerationConfig,
        timestamps: bool,
        device: torch.device | str = "cpu",
        max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP_S,
    ) -> None:
        self.vocabulary = vocabulary
        self.timestamps = timestamps
        vocab_size = vocabulary.size
        suppress_tokens = [
            token for token in {*generation_config.suppress_tokens, *vocabulary.always_suppressed} if token < vocab_size
        ]
        if timestamps:
            suppress_tokens.append(vocabulary.no_timestamps)
        self._suppress_tokens: Int[Tensor, "suppressed"] = torch.tensor(
            suppress_tokens, dtype=torch.long, device=device
        )
        begin_suppress_tokens = [token for token in generation_config.begin_suppress_tokens if token < vocab_size]
        self._begin_suppress_tokens: Int[Tensor, "suppressed"] = torch.tensor(
            begin_suppress_tokens, dtype=torch.long, device=device
        )
        self.token_ids: Int[Tensor, "vocab"] = torch.arange(vocab_size, device=device)
        """The token of each logit."""
        self._num_text_logits = vocabulary.timestamp_begin  # the logits before are no timestamps
        self._max_initial_timestamp_token = vocabulary.timestamp_begin + round(
            max_initial_timestamp / TIMESTAMP_STEP_SECONDS
        )

    def restrict_to(self, token_ids: Int[Tensor, "draft_vocab"]) -> "LogitFilter":
        """The same rules for logits of some tokens only, in ascending order.

        Raises `ValueError` where the end of text is not among them: nothing would end.
        """
        if not (token_ids == self.vocabulary.end_of_text).any():
            raise ValueError(f"the end of text ({self.vocabulary.end_of_text}) must be among the tokens")
        restricted = copy(self)
        restricted.token_ids, restricted._num_text_logits = (
            token_ids,
            int((token_ids < self.vocabulary.timestamp_begin).sum()),
        )
        restricted._suppress_tokens = torch.isin(token_ids, self._suppress_tokens).nonzero()[:, 0]
        restricted._begin_suppress_tokens = torch.isin(token_ids, self._begin_suppress_tokens).nonzero()[:, 0]
        return restricted

    def apply(self, logits: Float[Tensor, "rows vocab"], history: TokenHistory) -> Float[Tensor, "rows vocab"]:
        """Set the logits of what may not come to minus infinity, in place."""
        logits.index_fill_(1, self._suppress_tokens, -torch.inf)
        is_first = (history.num_tokens == 0)[:, None]
        logits[:, self._begin_suppress_tokens] = logits[:, self._begin_suppress_tokens].masked_fill(
            is_first, -torch.inf
        )
        if self.timestamps:
            logits.masked_fill_(self._timestamp_mask(history), -torch.inf)
            timestamp_logsumexp = logits[:, self._num_text_logits :].logsumexp(-1)
            max_text_logit = logits[:, : self._num_text_logits].amax(-1)
            logits[:, : self._num_text_logits].masked_fill_((timestamp_logsumexp > max_text_logit)[:, None], -torch.inf)
        return logits

    def _timestamp_mask(self, history: TokenHistory) -> Bool[Tensor, "rows vocab"]:
        timestamp_begin, end_of_text = self.vocabulary.timestamp_begin, self.vocabulary.end_of_text
        is_first = history.num_tokens == 0
        last_is_timestamp = ~is_first & (history.last_token >= timestamp_begin)
        pair_is_open = last_is_timestamp & (history.num_tokens > 1) & (history.penultimate_token < timestamp_begin)
        pair_is_closed = last_is_timestamp & ~pair_is_open
        is_timestamp = self.token_ids >= timestamp_begin
        mask = pair_is_closed[:, None] & is_timestamp
        mask = mask | (pair_is_open[:, None] & (self.token_ids < end_of_text))
        # A segment's end may be repeated as the next one's start; otherwise time must move on.
        min_timestamp = torch.where(pair_is_open, history.last_timestamp, history.last_timestamp + 1)
        mask = mask | (is_timestamp & (history.last_timestamp > 0)[:, None] & (self.token_ids < min_timestamp[:, None]))
        return mask | (is_first[:, None] & (~is_timestamp | (self.token_ids > self._max_initial_timestamp_token)))
