"""Draft models: they propose tokens, which the network verifies in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.sampling import Sampler
from whisperstill.model.decoder import Decoder
from whisperstill.text.vocabulary import Vocabulary

DRAFT_FRAME_POOLING = 2
"""Neighbouring encoder states that are averaged for a draft model, which halves its cross-attention. States are 20 ms
apart and differ little: with blocks of 4 tokens, the 2-layer student of whisper-base keeps its acceptance rate (0.951);
averaging 3 or 4 states gives 0.941 and 0.924."""
NUM_DRAFT_TEXT_TOKENS = 12_288
"""Text tokens in the vocabulary of a draft model."""


@dataclass(frozen=True)
class DecodeState:
    """State of every row before a block."""

    sequence: Int[Tensor, "rows capacity"]
    """All tokens, prompt included; undefined beyond `length`."""
    length: Int[Tensor, "rows"]
    history: TokenHistory
    sampler: Sampler


class DraftModel:
    """A small decoder that proposes its own choices, under the same logit filter and sampling noise as the network.

    Proposals change the speed of decoding, never its output.
    Its KV cache needs no roll-back: `_cached_length` counts the valid tokens of each row. Tokens that are missing,
    because a proposal was rejected or the network decoded without proposals, are processed as one block.
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
        """`batch_size` rows of `capacity` tokens. `draft_token_ids`: vocabulary, ascending; None: all tokens."""
        self._decoder = decoder
        self._kv_cache = decoder.static_cache(batch_size, positions // DRAFT_FRAME_POOLING, capacity)
        self._logit_filter = logit_filter if draft_token_ids is None else logit_filter.restrict_to(draft_token_ids)
        self._output_layer = decoder.output_layer(batch_size, draft_token_ids)
        self._cached_length = torch.zeros(batch_size, dtype=torch.long, device=logit_filter.token_ids.device)

    def prefill(
        self,
        rows: list[int],
        encoder_states: Float[Tensor, "new positions width"],
        prompt_tokens: Int[Tensor, "new prompt"],
    ) -> None:
        """Start new windows in these rows, with these prompts."""
        num_pooled = encoder_states.shape[1] // DRAFT_FRAME_POOLING
        trimmed_states = encoder_states[:, : num_pooled * DRAFT_FRAME_POOLING]
        pooled_states = trimmed_states.reshape(len(encoder_states), num_pooled, DRAFT_FRAME_POOLING, -1).mean(2)
        prefill_cache = self._decoder.prefill(pooled_states.to(self._decoder.positions.dtype))
        if prompt_tokens.shape[1] > 1:  # `propose` processes the last token
            self._decoder(prompt_tokens[:, :-1], prompt_tokens.new_zeros(len(prompt_tokens)), prefill_cache)
        else:
            prefill_cache.self_kv = []
        self._kv_cache.insert_rows(rows, prefill_cache)
        self._cached_length[rows] = prompt_tokens.shape[1] - 1

    def propose(self, state: DecodeState, num_tokens: int) -> Int[Tensor, "rows count"]:
        """Propose the next `num_tokens` tokens of every row."""
        num_rows, history, device = len(state.length), state.history, state.length.device
        # 1. Process the tokens that are not in the cache yet, at least the last one.
        self._kv_cache.num_rows = num_rows
        cached_length = torch.minimum(self._cached_length[:num_rows], state.length - 1)
        num_missed = int((state.length - cached_length).max())
        block_start = (state.length - num_missed).clamp(min=0)
        block = state.sequence.gather(1, block_start[:, None] + torch.arange(num_missed, device=device))
        hidden = self._decoder(block, block_start, self._kv_cache)
        last_hidden = hidden[torch.arange(num_rows, device=device), state.length - 1 - block_start]
        # 2. Decode token by token.
        proposed, position = list[Tensor](), state.length
        for index in range(num_tokens):
            logits = self._logit_filter.apply(self._output_layer(last_hidden), history)
            tokens = state.sampler.sample(logits, position, self._logit_filter.token_ids)
            history = history.append(tokens, self._logit_filter.vocabulary.timestamp_begin)
            proposed.append(tokens)
            if index + 1 < num_tokens:
                last_hidden = self._decoder(tokens[:, None], position, self._kv_cache)[:, 0]
                position = position + 1
        self._cached_length[:num_rows] = position
        return torch.stack(proposed, 1)

    def select_rows(self, order: Int[Tensor, "selected"]) -> None:
        """Move row `order[i]` to row i, and drop all other rows."""
        self._kv_cache.keep_rows(order)
        self._cached_length[: len(order)] = self._cached_length[order]


def select_draft_vocabulary(vocabulary: Vocabulary, training_tokens: Sequence[int]) -> list[int]:
    """Token ids of a reduced draft vocabulary, ascending: `NUM_DRAFT_TEXT_TOKENS` text tokens and all special tokens.

    The output layer takes 72 % of the operations of a step of whisper-base's 2-layer student. Proposals are verified,
    so a quarter of the vocabulary suffices: the tokens of the student's training labels, then those of the lowest ids,
    as byte-pair merges are numbered by frequency.
    """
    num_text_tokens = vocabulary.end_of_text
    training_text_tokens = (token for token in training_tokens if 0 <= token < num_text_tokens)
    selected = dict.fromkeys((*training_text_tokens, *range(num_text_tokens)))
    return [*sorted(list(selected)[:NUM_DRAFT_TEXT_TOKENS]), *range(num_text_tokens, vocabulary.size)]
