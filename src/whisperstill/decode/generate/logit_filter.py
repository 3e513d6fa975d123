"""Whisper's logit filters, vectorized over rows at different positions.

As in openai/whisper: suppressed tokens, tokens suppressed at the beginning, and the timestamp rules. Timestamps come in
pairs (a segment's end, the next one's start) and do not decrease; the first one has an upper bound; a timestamp is
forced if all timestamps together are more probable than any text token.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.model.generation_config import GenerationConfig
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import TIMESTAMP_STEP_SECONDS

MAX_INITIAL_TIMESTAMP_S = 1.0
"""Upper bound of the first timestamp (openai/whisper's default)."""


class TokenHistory(NamedTuple):
    """What the timestamp rules depend on: the number of decoded tokens of each row, and its last ones."""

    num_tokens: Int[Tensor, "rows"]
    last_token: Int[Tensor, "rows"]
    penultimate_token: Int[Tensor, "rows"]
    last_timestamp: Int[Tensor, "rows"]
    """Last timestamp token of the row; 0 if there is none."""

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> "TokenHistory":
        """History before the first token."""
        return cls(*(torch.zeros(rows, dtype=torch.long, device=device) for _ in range(4)))

    @classmethod
    def gather(cls, steps: Sequence["TokenHistory"], index: Int[Tensor, "rows"]) -> "TokenHistory":
        """History of each row at step `index[row]` of `steps`."""
        return cls(*(torch.stack(field).gather(0, index[None])[0] for field in zip(*steps, strict=True)))

    def after_each(self, tokens: Int[Tensor, "rows more"], timestamp_begin: int) -> list["TokenHistory"]:
        """The present history, and those after each of these tokens."""
        steps = [self]
        for next_tokens in tokens.unbind(1):
            steps.append(steps[-1].append(next_tokens, timestamp_begin))
        return steps

    @classmethod
    def flatten(cls, steps: Sequence["TokenHistory"]) -> "TokenHistory":
        """All steps as one history, row by row: row 0 at every step, row 1 at every step ..."""
        return cls(*(torch.stack(field, 1).flatten() for field in zip(*steps, strict=True)))

    def append(self, tokens: Int[Tensor, "rows"], timestamp_begin: int) -> "TokenHistory":
        """The history with one more token per row."""
        last_timestamp = torch.where(tokens >= timestamp_begin, tokens, self.last_timestamp)
        return TokenHistory(self.num_tokens + 1, tokens, self.last_token, last_timestamp)

    def select_rows(self, rows: Int[Tensor, "selected"]) -> "TokenHistory":
        """The history whose row i is row `rows[i]`."""
        return TokenHistory(*(values[rows] for values in self))

    def reset_rows(self, rows: list[int], num_rows: int) -> "TokenHistory":
        """The history of `num_rows` rows, of which these are empty."""
        index = torch.tensor(rows, device=self.num_tokens.device)
        padded = (F.pad(values, (0, num_rows - len(values))) for values in self)
        return TokenHistory(*(values.index_fill(0, index, 0) for values in padded))

    def prime(self, row: int, tokens: Sequence[int], timestamp_begin: int) -> None:
        """Append tokens to one row, in place."""
        for token in tokens:
            self.penultimate_token[row], self.last_token[row] = self.last_token[row].clone(), token
            self.num_tokens[row] += 1
            if token >= timestamp_begin:
                self.last_timestamp[row] = token


class LogitFilter:
    """Masks the logits of tokens that may not come next."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        generation_config: GenerationConfig,
        timestamps: bool,
        device: torch.device | str = "cpu",
        max_initial_timestamp: float = MAX_INITIAL_TIMESTAMP_S,
    ) -> None:

        def in_vocabulary(tokens: Iterable[int]) -> Int[Tensor, "suppressed"]:
            ids = [token for token in tokens if token < vocabulary.size]
            return torch.tensor(ids, dtype=torch.long, device=device)

        self.vocabulary, self.timestamps = vocabulary, timestamps
        timestamp_tokens = {vocabulary.no_timestamps} if timestamps else set()
        suppress_tokens = {*generation_config.suppress_tokens, *vocabulary.always_suppressed} | timestamp_tokens
        self._suppress_tokens = in_vocabulary(suppress_tokens)
        self._begin_suppress_tokens = in_vocabulary(generation_config.begin_suppress_tokens)
        self.token_ids: Int[Tensor, "vocab"] = torch.arange(vocabulary.size, device=device)
        """Token id of each logit."""
        self._num_text_logits = vocabulary.timestamp_begin
        max_initial_step = round(max_initial_timestamp / TIMESTAMP_STEP_SECONDS)
        self._max_initial_timestamp_token = vocabulary.timestamp_begin + max_initial_step

    def restrict_to(self, token_ids: Int[Tensor, "draft_vocab"]) -> "LogitFilter":
        """This filter for logits of a subset of tokens, in ascending order.

        Raises `ValueError` if the end token is missing.
        """
        if not (token_ids == self.vocabulary.end_of_text).any():
            raise ValueError(f"expected token_ids with the end of text, {self.vocabulary.end_of_text}; add it")
        restricted = copy(self)
        restricted.token_ids = token_ids
        restricted._num_text_logits = int((token_ids < self.vocabulary.timestamp_begin).sum())
        restricted._suppress_tokens = torch.isin(token_ids, self._suppress_tokens).nonzero()[:, 0]
        restricted._begin_suppress_tokens = torch.isin(token_ids, self._begin_suppress_tokens).nonzero()[:, 0]
        return restricted

    def apply(self, logits: Float[Tensor, "rows vocab"], history: TokenHistory) -> Float[Tensor, "rows vocab"]:
        """Set the logits of disallowed tokens to minus infinity, in place."""
        # 1. Suppressed tokens, everywhere and at the beginning.
        logits.index_fill_(1, self._suppress_tokens, -torch.inf)
        is_first, begin_suppress = (history.num_tokens == 0)[:, None], self._begin_suppress_tokens
        logits[:, begin_suppress] = logits[:, begin_suppress].masked_fill(is_first, -torch.inf)
        if self.timestamps:
            # 2. Pairs, order and first timestamp.
            logits.masked_fill_(self._timestamp_mask(history), -torch.inf)
            # 3. No text token if the timestamps together are more probable than each of them.
            timestamp_logsumexp = logits[:, self._num_text_logits :].logsumexp(-1)
            text_logits = logits[:, : self._num_text_logits]
            text_logits.masked_fill_((timestamp_logsumexp > text_logits.amax(-1))[:, None], -torch.inf)
        return logits

    def _timestamp_mask(self, history: TokenHistory) -> Bool[Tensor, "rows vocab"]:
        """Tokens that the timestamp rules disallow."""
        timestamp_begin, end_of_text = self.vocabulary.timestamp_begin, self.vocabulary.end_of_text
        is_first = history.num_tokens == 0
        last_is_timestamp = ~is_first & (history.last_token >= timestamp_begin)
        pair_is_open = last_is_timestamp & (history.num_tokens > 1) & (history.penultimate_token < timestamp_begin)
        pair_is_closed = last_is_timestamp & ~pair_is_open
        is_timestamp = self.token_ids >= timestamp_begin
        # 1. After a pair, and after the first timestamp, no timestamp; after a segment's end, no text.
        mask = pair_is_closed[:, None] & is_timestamp
        mask = mask | (pair_is_open[:, None] & (self.token_ids < end_of_text))
        # 2. Timestamps increase, but a segment may start where the one before ended.
        min_timestamp = torch.where(pair_is_open, history.last_timestamp, history.last_timestamp + 1)
        mask = mask | (is_timestamp & (history.last_timestamp > 0)[:, None] & (self.token_ids < min_timestamp[:, None]))
        # 3. The transcript begins with a timestamp, up to `max_initial_timestamp`.
        return mask | (is_first[:, None] & (~is_timestamp | (self.token_ids > self._max_initial_timestamp_token)))
