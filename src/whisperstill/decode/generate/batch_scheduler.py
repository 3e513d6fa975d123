"""Continuous batching with speculative decoding: a network decodes many windows at once, each at its own position.

A finished window frees its slot for the next one, of any recording. Every step decodes a block: the last token of each
row, followed by the draft model's proposals. The network processes the block in one pass. Its choice at position i
counts only if all proposals before i equal its own choices, so the output is that of one token at a time, whatever is
proposed. Rows accept independently: the next block overwrites rejected tokens, and no row waits for the shortest one
(rolling a batch back to its shortest row makes the paper's method slower than greedy decoding at batch size 16).
Without a draft model a block is one token: greedy decoding is the same code.

The logits of a block and of a single token differ by rounding, by about 5e-6 in float32 and 4e-2 in bfloat16. Two
nearly equal logits may then change places, as between any two batch sizes. With `deterministic`, the shapes (rows,
tokens, keys) never change, so outputs with any draft model are equal to the last bit, in every dtype.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.generate.draft_length import DraftLengthController
from whisperstill.decode.generate.draft_model import DecodeState, DraftModel
from whisperstill.decode.generate.logit_filter import LogitFilter, TokenHistory
from whisperstill.decode.generate.sampling import Sampler
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult, TokenStatsBuffer, compute_no_speech_probs
from whisperstill.model.dims import Dims
from whisperstill.model.kv_cache import StaticKVCache
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

COMPACT_BELOW_BUSY_FRACTION = 0.75
"""Finished rows are dropped from the batch when at most this fraction of its rows is busy."""


@dataclass(frozen=True, eq=False)
class DecodeRequest:
    """One window to decode. Requests compare and hash by identity: callers may use them as keys."""

    encoder_states: Float[Tensor, "positions width"]
    prompt_tokens: tuple[int, ...]
    """Tokens before the transcript: an optional prompt, then `<|startoftranscript|>` and what follows it."""
    draft_encoder_states: Float[Tensor, "positions draft_width"] | None = None
    """Output of the draft model's own encoder; None if it shares the network's encoder."""
    temperature: float = 0.0
    """0: greedy."""
    seed: int = 0
    """Seed of the sampling noise at temperatures above 0."""
    forced_prefix: tuple[int, ...] = ()
    """The last of `prompt_tokens`, if the logit filter is to treat them as decoded tokens."""
    max_new_tokens: int = MAX_NEW_TOKENS

    def max_steps(self, dims: Dims) -> int:
        """Tokens to decode at most, at least 1. Raises `ValueError` if the prompt fills all decoder positions."""
        length, limit = len(self.prompt_tokens), dims.max_target_positions
        if length >= limit:
            raise ValueError(f"expected a prompt of less than {limit} tokens, got {length}; shorten it")
        return max(1, min(self.max_new_tokens, limit - length))


@dataclass
class _SlotState:
    """The request that occupies a slot."""

    request: DecodeRequest
    buffer_row: int
    no_speech_prob: float


@dataclass
class BatchScheduler:
    """Decodes up to `batch_size` windows at once, each in a slot (a row of the KV cache), under one logit filter.

    `add_requests` fills free slots, `step` decodes one block in every slot. `top_k` is that of `TokenStatsBuffer`.
    `make_draft(batch_size, max_tokens)` creates the draft model; without one a block is one token. If
    `deterministic`, blocks have the same length without a draft model; token 0 is then proposed in its place.
    """

    network: Whisper
    logit_filter: LogitFilter
    batch_size: int
    top_k: int = 0
    make_draft: Callable[[int, int], DraftModel] | None = None
    length_controller: DraftLengthController = field(default_factory=lambda: DraftLengthController((1,)))
    """Chooses the tokens of each block; only one size if `deterministic`."""
    deterministic: bool = False
    speculative_stats: SpeculativeStats = field(default_factory=SpeculativeStats)

    def __post_init__(self) -> None:
        block_sizes, dims, device = self.length_controller.block_sizes, self.network.dims, self.network.device
        if min(block_sizes) < 1 or (self.deterministic and len(block_sizes) > 1):
            raise ValueError(f"block_sizes must be at least 1, and exactly one when deterministic, got {block_sizes}")
        batch_size, max_block_tokens = self.batch_size, self.batch_size * max(block_sizes)
        self._capacity = capacity = dims.max_target_positions + max(block_sizes)
        self._kv_cache: StaticKVCache | None = None  # allocated with the first window, whose length decides its size
        self._draft = self.make_draft(batch_size, capacity) if self.make_draft else None
        # Empty rows write their token statistics to the buffer's last row, which is never read.
        self._stats_buffer = TokenStatsBuffer(batch_size + 1, capacity, max_block_tokens, self.top_k, self.network)
        self._output_layer = self.network.decoder.output_layer(max_block_tokens)
        self._slot_states: list[_SlotState | None] = [None] * batch_size if self.deterministic else []
        self._free_buffer_rows = list(reversed(range(batch_size)))
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._sequence = torch.zeros(batch_size, capacity, dtype=torch.long, device=device)
        self._length, self._prompt_length, self._max_new_tokens = zeros + 1, zeros.clone(), zeros.clone()
        self._buffer_row, self._seed = zeros + batch_size, zeros.clone()
        self._temperature, self._running = zeros.float(), zeros.bool()
        self._history = TokenHistory.empty(len(self._slot_states), device)
        self._greedy = True  # whether all temperatures are 0

    @property
    def num_free_slots(self) -> int:
        return self.batch_size - self.num_busy_slots

    @property
    def num_busy_slots(self) -> int:
        return sum(slot is not None for slot in self._slot_states)

    @torch.inference_mode()
    def add_requests(self, requests: Sequence[DecodeRequest]) -> None:
        """Put windows into free slots. Raises `ValueError` for too many, and if a prompt fills all positions."""
        if len(requests) > self.num_free_slots:
            raise ValueError(f"expected at most {self.num_free_slots} windows (free slots), got {len(requests)}")
        start_time, draft_seconds_before = time.perf_counter(), self.speculative_stats.draft_seconds
        groups: dict[int, list[DecodeRequest]] = {}
        for request in requests:
            groups.setdefault(len(request.prompt_tokens), []).append(request)
        for group in groups.values():
            # With fixed shapes, one at a time: a result must not depend on how many windows arrive together.
            for batch in [[request] for request in group] if self.deterministic else [group]:
                self._prefill(batch)
        elapsed = time.perf_counter() - start_time
        self.speculative_stats.verify_seconds += elapsed - (self.speculative_stats.draft_seconds - draft_seconds_before)

    @torch.inference_mode()
    def step(self) -> list[tuple[DecodeRequest, DecodingResult]]:
        """Draft and verify one block in every slot; returns the requests that finished, whose slots are free again."""
        # 1. Drop idle rows, unless shapes are fixed.
        if not self.deterministic:
            self._compact()
        num_rows = len(self._slot_states)
        assert self._kv_cache is not None and num_rows
        self._kv_cache.num_rows = num_rows
        # 2. Draft: propose `block_size - 1` tokens per row.
        start_time = time.perf_counter()
        block_size = self.length_controller.choose_block_size(num_rows)
        sampler = Sampler(self._temperature[:num_rows], self._seed[:num_rows], self._greedy)
        state = DecodeState(self._sequence[:num_rows], self._length[:num_rows].clone(), self._history, sampler)
        proposed = state.length.new_zeros(num_rows, block_size - 1)
        if block_size > 1 and self._draft is not None:
            proposed = self._draft.propose(state, block_size - 1)
        drafted_time = time.perf_counter()
        # 3. Verify: the network chooses a token at every position of the block.
        choice, histories = self._choose(state, proposed)
        # 4. Take the agreed tokens and one more, but none after the end token or beyond the limit.
        num_agreed = (choice[:, :-1] == proposed).long().cumprod(1).sum(1)
        is_end = choice == self.logit_filter.vocabulary.end_of_text
        until_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, block_size + 1)
        remaining = self._max_new_tokens[:num_rows] - (state.length - self._prompt_length[:num_rows])
        num_taken = torch.minimum(torch.minimum(num_agreed + 1, until_end), remaining) * self._running[:num_rows]
        # 5. Advance every row by its tokens. Rejected tokens lie beyond its length, and are overwritten later.
        positions = state.length[:, None] + torch.arange(block_size, device=choice.device)
        self._sequence[:num_rows].scatter_(1, positions.clamp(max=self._capacity - 1), choice)
        self._length[:num_rows] = state.length + num_taken
        self._history = TokenHistory.gather(histories, num_taken)
        # 6. Free the slots of finished rows.
        ended = until_end <= num_taken
        finished = self._running[:num_rows] & (ended | (num_taken >= remaining))
        finished_rows = finished.nonzero()[:, 0].tolist() if finished.any() else []
        results = [self._finish(row, bool(ended[row])) for row in finished_rows]
        self._update_stats(block_size, num_taken, num_agreed, start_time, drafted_time)
        return results

    def _choose(
        self, state: DecodeState, proposed: Int[Tensor, "rows draft_tokens"]
    ) -> tuple[Int[Tensor, "rows block"], list[TokenHistory]]:
        """The network's choice at each position of a block, and the history before and after each choice."""
        assert self._kv_cache is not None
        num_rows, block_size = len(proposed), proposed.shape[1] + 1
        timestamp_begin = self.logit_filter.vocabulary.timestamp_begin
        # 1. One pass over the last token, whose keys are not yet cached, and the proposals.
        position = state.length - 1
        last_token = state.sequence.gather(1, position[:, None])
        hidden = self.network.decoder(torch.cat((last_token, proposed), 1), position, self._kv_cache).flatten(0, 1)
        logits = self._output_layer(hidden)
        # 2. Record the unfiltered distribution at each step of the transcript.
        buffer_rows = self._buffer_row[:num_rows].repeat_interleave(block_size)
        next_position = (position[:, None] + 1 + torch.arange(block_size, device=position.device)).flatten()
        step = next_position - self._prompt_length[:num_rows].repeat_interleave(block_size)
        step = step.clamp(0, self._stats_buffer.tokens.shape[1] - 1)
        self._stats_buffer.record_distribution(buffer_rows, step, logits, hidden)
        # 3. Choose under the filter. Token i assumes the proposals before it; if one is rejected, i does not count.
        histories = state.history.after_each(proposed, timestamp_begin)
        logits = self.logit_filter.apply(logits, TokenHistory.flatten(histories))
        tokens = state.sampler.repeat_interleave(block_size).sample(logits, next_position, self.logit_filter.token_ids)
        self._stats_buffer.record_choice(buffer_rows, step, logits, tokens)
        choice = tokens.view(num_rows, block_size)
        after_choice = [history.append(choice[:, i], timestamp_begin) for i, history in enumerate(histories)]
        return choice, [state.history, *after_choice]

    def _prefill(self, requests: list[DecodeRequest]) -> None:
        """Run the prompts of requests, all of one prompt length, and assign slots."""
        network, vocabulary = self.network, self.logit_filter.vocabulary
        max_steps = [request.max_steps(network.dims) for request in requests]
        rows = self._allocate_rows(len(requests))
        # 1. Keys and values of windows and prompts.
        encoder_states = torch.stack([request.encoder_states for request in requests])
        prompt_tokens = torch.tensor([request.prompt_tokens for request in requests], device=network.device)
        prompt_length = prompt_tokens.shape[1]
        if self._kv_cache is None:
            sizes = (self.batch_size, encoder_states.shape[1], self._capacity)
            self._kv_cache = network.decoder.static_cache(*sizes, self.deterministic)
        prefill_cache = network.decoder.prefill(encoder_states)
        hidden = network.decoder(prompt_tokens, prompt_tokens.new_zeros(len(requests)), prefill_cache)
        self._kv_cache.insert_rows(rows, prefill_cache)
        no_speech_probs = compute_no_speech_probs(network, hidden, prompt_tokens, vocabulary).tolist()
        # 2. The same for the draft model.
        if self._draft is not None:
            start_time = time.perf_counter()
            own_states = [request.draft_encoder_states for request in requests]
            states = [shared if own is None else own for own, shared in zip(own_states, encoder_states, strict=True)]
            self._draft.prefill(rows, torch.stack(states), prompt_tokens)
            self.speculative_stats.draft_seconds += time.perf_counter() - start_time
        # 3. State of the rows.
        self._sequence[rows, :prompt_length] = prompt_tokens
        self._length[rows] = self._prompt_length[rows] = prompt_length
        self._running[rows] = True
        self._history = self._history.reset_rows(rows, len(self._slot_states))
        for row, request, max_new_tokens, no_speech in zip(rows, requests, max_steps, no_speech_probs, strict=True):
            buffer_row = self._free_buffer_rows.pop()
            self._slot_states[row] = _SlotState(request, buffer_row, no_speech)
            self._buffer_row[row], self._max_new_tokens[row] = buffer_row, max_new_tokens
            self._seed[row], self._temperature[row] = request.seed, request.temperature
            self._history.prime(row, request.forced_prefix, vocabulary.timestamp_begin)
        self._greedy = all(slot is None or slot.request.temperature == 0 for slot in self._slot_states)

    def _allocate_rows(self, count: int) -> list[int]:
        """Indices of `count` free rows in ascending order; rows are added if too few are free."""
        free_rows = [row for row, slot in enumerate(self._slot_states) if slot is None][:count]
        new_rows = range(len(self._slot_states), len(self._slot_states) + count - len(free_rows))
        self._slot_states += [None] * len(new_rows)
        return [*free_rows, *new_rows]

    def _finish(self, row: int, ended: bool) -> tuple[DecodeRequest, DecodingResult]:
        slot = self._slot_states[row]
        assert slot is not None
        num_steps = int(self._length[row] - self._prompt_length[row])
        result = self._stats_buffer.build_result(slot.buffer_row, num_steps, ended, slot.no_speech_prob)
        self._free_buffer_rows.append(slot.buffer_row)
        self._slot_states[row] = None
        self._running[row] = False
        # Until it is refilled or dropped, the row processes its first token again at every step.
        self._length[row], self._buffer_row[row] = 1, self.batch_size
        return slot.request, result

    def _compact(self) -> None:
        """Drop empty rows if too few rows are busy."""
        if self.num_busy_slots > COMPACT_BELOW_BUSY_FRACTION * len(self._slot_states):
            return
        assert self._kv_cache is not None
        busy_rows = [row for row, slot in enumerate(self._slot_states) if slot is not None]
        order = self._kv_cache.keep_rows(torch.tensor(busy_rows, device=self._length.device))
        if self._draft is not None:
            self._draft.select_rows(order)
        self._history = self._history.select_rows(order)
        lengths = (self._length, self._prompt_length, self._max_new_tokens)
        sampling = (self._seed, self._temperature)
        for tensor in (self._sequence, *lengths, *sampling, self._buffer_row, self._running):
            tensor[: len(order)] = tensor[order]
        self._running[len(order) :] = False
        self._slot_states = [self._slot_states[row] for row in order.tolist()]

    def _update_stats(
        self,
        block_size: int,
        num_taken: Int[Tensor, "rows"],
        num_agreed: Int[Tensor, "rows"],
        start_time: float,
        drafted_time: float,
    ) -> None:
        now, stats, running = time.perf_counter(), self.speculative_stats, num_taken > 0
        accepted_per_row = torch.minimum(num_agreed, num_taken)[running]
        # Proposals are checked up to the first rejected one; those behind an end token are not.
        checked_per_row = torch.minimum(accepted_per_row + 1, torch.full_like(accepted_per_row, block_size - 1))
        accepted, checked, num_running = int(accepted_per_row.sum()), int(checked_per_row.sum()), int(running.sum())
        self.length_controller.update(block_size, len(num_taken), now - start_time, accepted, checked)
        stats.verifications += num_running
        stats.proposed += num_running * (block_size - 1)
        stats.accepted += accepted
        stats.tokens += int(num_taken.sum())
        stats.draft_seconds += drafted_time - start_time
        stats.verify_seconds += now - drafted_time
