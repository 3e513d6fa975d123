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
from collections import deque
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
class BatchScheduler:
    """Decodes up to `batch_size` windows at once, each in a slot (a row of the KV cache), under one logit filter.

    `generate` decodes a list of windows. Where windows arrive one by one, `submit` queues them and `step` decodes one
    block of every window in a slot. `top_k` is that of `TokenStatsBuffer`. `make_draft(batch_size, max_tokens)` creates
    the draft model; without one a block is one token. If `deterministic`, blocks have the same length without a draft
    model; token 0 is then proposed in its place.
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
        self._stats_buffer = TokenStatsBuffer(batch_size, capacity, max_block_tokens, self.top_k, self.network)
        self._output_layer = self.network.decoder.output_layer(max_block_tokens)
        self._queue: deque[DecodeRequest] = deque()
        self._slots: list[DecodeRequest | None] = [None] * batch_size if self.deterministic else []
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._sequence = torch.zeros(batch_size, capacity, dtype=torch.long, device=device)
        self._length, self._prompt_length, self._max_new_tokens = zeros + 1, zeros.clone(), zeros.clone()
        self._seed, self._temperature, self._no_speech_prob = zeros.clone(), zeros.float(), zeros.float()
        self._running = zeros.bool()
        self._history = TokenHistory.empty(len(self._slots), device)
        self._greedy = True  # whether all temperatures are 0

    @property
    def num_free_slots(self) -> int:
        """Slots that are neither busy nor reserved for a queued request."""
        return max(0, self.batch_size - self._num_busy_slots - len(self._queue))

    @property
    def idle(self) -> bool:
        return not (self._queue or self._num_busy_slots)

    @property
    def _num_busy_slots(self) -> int:
        return sum(slot is not None for slot in self._slots)

    def submit(self, request: DecodeRequest) -> None:
        """Queue a request."""
        self._queue.append(request)

    def generate(self, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
        """Results of these requests, in order; there may be more requests than slots. The scheduler must be idle.

        Raises `ValueError` if a prompt fills all positions.
        """
        for request in requests:
            self.submit(request)
        results: dict[DecodeRequest, DecodingResult] = {}
        while not self.idle:
            results |= dict(self.step())
        return [results[request] for request in requests]

    def _fill_slots(self) -> None:
        """Put queued requests into free slots."""
        start_time, draft_seconds_before = time.perf_counter(), self.speculative_stats.draft_seconds
        groups: dict[int, list[DecodeRequest]] = {}
        for _ in range(min(self.batch_size - self._num_busy_slots, len(self._queue))):
            request = self._queue.popleft()
            groups.setdefault(len(request.prompt_tokens), []).append(request)
        for group in groups.values():
            # With fixed shapes, one at a time: a result must not depend on how many windows arrive together.
            for batch in [[request] for request in group] if self.deterministic else [group]:
                self._prefill(batch)
        elapsed = time.perf_counter() - start_time
        self.speculative_stats.verify_seconds += elapsed - (self.speculative_stats.draft_seconds - draft_seconds_before)

    @torch.inference_mode()
    def step(self) -> list[tuple[DecodeRequest, DecodingResult]]:
        """Fill free slots, then draft and verify one block in every slot; returns the requests that finished."""
        if self._queue:
            self._fill_slots()
        if not self._num_busy_slots:
            return []
        # 1. Drop idle rows, unless shapes are fixed.
        if not self.deterministic:
            self._compact()
        num_rows = len(self._slots)
        assert self._kv_cache is not None
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
        rows = torch.arange(num_rows, device=position.device).repeat_interleave(block_size)
        next_position = (position[:, None] + 1 + torch.arange(block_size, device=position.device)).flatten()
        step = next_position - self._prompt_length[:num_rows].repeat_interleave(block_size)
        step = step.clamp(0, self._stats_buffer.tokens.shape[1] - 1)
        self._stats_buffer.record_distribution(rows, step, logits, hidden)
        # 3. Choose under the filter. Token i assumes the proposals before it; if one is rejected, i does not count.
        histories = state.history.after_each(proposed, timestamp_begin)
        logits = self.logit_filter.apply(logits, TokenHistory.flatten(histories))
        tokens = state.sampler.repeat_interleave(block_size).sample(logits, next_position, self.logit_filter.token_ids)
        self._stats_buffer.record_choice(rows, step, logits, tokens)
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
        self._no_speech_prob[rows] = compute_no_speech_probs(network, hidden, prompt_tokens, vocabulary)
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
        self._history = self._history.reset_rows(rows, len(self._slots))
        for row, request, max_new_tokens in zip(rows, requests, max_steps, strict=True):
            self._slots[row], self._max_new_tokens[row] = request, max_new_tokens
            self._seed[row], self._temperature[row] = request.seed, request.temperature
            self._history.prime(row, request.forced_prefix, vocabulary.timestamp_begin)
        self._greedy = all(request is None or request.temperature == 0 for request in self._slots)

    def _allocate_rows(self, count: int) -> list[int]:
        """Indices of `count` free rows in ascending order; rows are added if too few are free."""
        free_rows = [row for row, slot in enumerate(self._slots) if slot is None][:count]
        new_rows = range(len(self._slots), len(self._slots) + count - len(free_rows))
        self._slots += [None] * len(new_rows)
        return [*free_rows, *new_rows]

    def _finish(self, row: int, ended: bool) -> tuple[DecodeRequest, DecodingResult]:
        request = self._slots[row]
        assert request is not None
        num_steps = int(self._length[row] - self._prompt_length[row])
        result = self._stats_buffer.build_result(row, num_steps, ended, float(self._no_speech_prob[row]))
        # Until it is refilled or dropped, the row processes its first token again at every step.
        self._slots[row], self._running[row], self._length[row] = None, False, 1
        return request, result

    def _compact(self) -> None:
        """Drop empty rows if too few rows are busy."""
        if self._num_busy_slots > COMPACT_BELOW_BUSY_FRACTION * len(self._slots):
            return
        assert self._kv_cache is not None
        busy_rows = [row for row, slot in enumerate(self._slots) if slot is not None]
        order = self._kv_cache.keep_rows(torch.tensor(busy_rows, device=self._length.device))
        if self._draft is not None:
            self._draft.select_rows(order)
        self._history = self._history.select_rows(order)
        self._stats_buffer.select_rows(order)
        lengths = (self._length, self._prompt_length, self._max_new_tokens)
        for tensor in (self._sequence, *lengths, self._seed, self._temperature, self._no_speech_prob, self._running):
            tensor[: len(order)] = tensor[order]
        self._running[len(order) :] = False
        self._slots = [self._slots[row] for row in order.tolist()]

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


def generate(network: Whisper, logit_filter: LogitFilter, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
    """Results of these requests decoded in one batch by a bare network, without a draft model."""
    return BatchScheduler(network, logit_filter, len(requests)).generate(requests)
