"""Who proposes the tokens that a teacher verifies."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.sampling import Sampler
from whisperstill.model.decoder import Decoder
from whisperstill.model.kv_cache import StaticKVCache

DRAFT_FRAME_POOLING = 2
"""Neighbouring encoder states that a draft hears as their mean: they differ little, being 20 ms apart, and it has half
the keys to project and to read. Of blocks of 4 tokens of base's 2-layer student as many proposals stood (0.951) as
without; of 3 or 4 states 0.941 and 0.924."""


@dataclass(frozen=True)
class DecodeState:
    """What is known of each row when tokens are asked for."""

    sequence: Int[Tensor, "rows capacity"]
    """All tokens, what stands before the transcript included; behind `length` anything."""
    length: Int[Tensor, "rows"]
    history: TokenHistory
    sampler: Sampler


class DraftModel(Protocol):
    """Proposes; nothing it says can change what is decoded, only how fast."""

    def prefill(
        self,
        rows: list[int],
        encoder_states: Float[Tensor, "new positions width"],
        prompt_tokens: Int[Tensor, "new prompt"],
    ) -> None:
        """These rows hold new windows now, with these tokens before the transcript."""
        ...

    def propose(self, state: DecodeState, num_tokens: int) -> Int[Tensor, "rows count"]:
        """`num_tokens` tokens a row that may follow the last one."""
        ...

    def select_rows(self, order: Int[Tensor, "selected"]) -> None:
        """Row i is from now on what row `order[i]` was."""
        ...


class NullDraft:
    """Proposes the same token always: the teacher decodes greedily, in blocks."""

    def prefill(
        self,
        rows: list[int],
        encoder_states: Float[Tensor, "new positions width"],
        prompt_tokens: Int[Tensor, "new prompt"],
    ) -> None:
        """Nothing to note."""

    def propose(self, state: DecodeState, num_tokens: int) -> Int[Tensor, "rows count"]:
        """See `DraftModel`."""
        return state.length.new_zeros(len(state.length), num_tokens)

    def select_rows(self, order: Int[Tensor, "selected"]) -> None:
        """Nothing to drop."""


class NetworkDraft:
    """A small network's own tokens, taken as the teacher takes its own: same rules, same noise.

    Its slots need no roll-back. `_cached_length` says how many tokens of a row it has read; where the teacher took
    another token than proposed, or went on alone for a while, the student reads what it missed as one block.
    """

    def __init__(
        self,
        decoder: Decoder,
        batch_size: int,
        positions: int,
        capacity: int,
        logit_filter: LogitFilter,
        draft_token_ids: Int[Tensor, "draft_vocab"] | None,
    ) -> None:
        """`batch_size` rows of `capacity` tokens. `draft_token_ids` are what it may propose, ascending; None: all."""
        self._decoder = decoder
        self._kv_cache: StaticKVCache = decoder.static_cache(batch_size, positions // DRAFT_FRAME_POOLING, capacity)
        self._logit_filter = logit_filter if draft_token_ids is None else logit_filter.restrict_to(draft_token_ids)
        self._output_layer = decoder.output_layer(batch_size, draft_token_ids)
        self._cached_length = torch.zeros(batch_size, dtype=torch.long, device=logit_filter.token_ids.device)

    def prefill(
        self,
        rows: list[int],
        encoder_states: Float[Tensor, "new positions width"],
        prompt_tokens: Int[Tensor, "new prompt"],
    ) -> None:
        """See `DraftModel`."""
        num_pooled = encoder_states.shape[1] // DRAFT_FRAME_POOLING
        trimmed_states = encoder_states[:, : num_pooled * DRAFT_FRAME_POOLING]
        pooled_states = trimmed_states.reshape(len(encoder_states), num_pooled, DRAFT_FRAME_POOLING, -1).mean(2)
        prefill_cache = self._decoder.prefill(pooled_states.to(self._decoder.positions.dtype))
        if prompt_tokens.shape[1] > 1:  # the last token is read when it is asked for what follows
            self._decoder(prompt_tokens[:, :-1], prompt_tokens.new_zeros(len(prompt_tokens)), prefill_cache)
        else:
            prefill_cache.self_kv = []
        self._kv_cache.insert_rows(rows, prefill_cache)
        self._cached_length[rows] = prompt_tokens.shape[1] - 1

    def propose(self, state: DecodeState, num_tokens: int) -> Int[Tensor, "rows count"]:
        """See `DraftModel`."""
        num_rows, vocabulary = len(state.length), self._logit_filter.vocabulary
        self._kv_cache.set_num_rows(num_rows)
        history = state.history.copy()
        cached_length = torch.minimum(self._cached_length[:num_rows], state.length - 1)
        num_missed = int((state.length - cached_length).max())
        block_start = (state.length - num_missed).clamp(min=0)
        block = state.sequence.gather(1, block_start[:, None] + torch.arange(num_missed, device=block_start.device))
        hidden = self._decoder(block, block_start, self._kv_cache)
        last_hidden = hidden[torch.arange(num_rows, device=block_start.device), state.length - 1 - block_start]
        proposed: list[Tensor] = []
        position = state.length
        for index in range(num_tokens):
            logits = self._logit_filter.apply(self._output_layer(last_hidden), history)
            tokens = state.sampler.sample(logits, position, self._logit_filter.token_ids)
            history.append(tokens, vocabulary.timestamp_begin)
            proposed.append(tokens)
            if index + 1 < num_tokens:
                last_hidden = self._decoder(tokens[:, None], position, self._kv_cache)[:, 0]
                position = position + 1
        self._cached_length[:num_rows] = position
        return torch.stack(proposed, 1)

    def select_rows(self, order: Int[Tensor, "selected"]) -> None:
        """See `DraftModel`."""
        self._kv_cache.keep_rows(order)
        self._cached_length[: len(order)] = self._cached_length[order]
