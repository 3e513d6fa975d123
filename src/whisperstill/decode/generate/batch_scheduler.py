"""Slots that windows are decoded in, many at a time and each at a step of its own.

A window whose transcript ends leaves its slot to the next one, of whatever recording. A step is a block: the last token
of each row, and what a draft proposes to follow it. The network reads the block at once, and token i of its choices
stands only if every token before it is the network's own choice, made under the same rules: whatever is proposed, the
output is what one token after the other gives. Rows accept as they please; a rejected token is overwritten by the next
block, and nobody waits for the worst (the roll-back of a batch to its shortest row is what makes the method of the
paper slower than greedy at batch 16). Without a draft a block is a single token: greedy decoding is the same code.

A block's logits and a single token's differ by rounding, in float32 by about 5e-6, in bf16 by about 4e-2, where two
nearly equal logits may change places, as they may between any two batches of greedy decoding. With `deterministic`
blocks all shapes stay as they are (rows, tokens, keys), whatever is proposed and accepted: outputs are then equal to
the last bit to those of the same blocks with useless proposals, in every type.
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
from whisperstill.model.kv_cache import StaticKVCache
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

COMPACT_BELOW_BUSY_FRACTION = 0.75
"""Rows still running, as a share of those held, below which finished rows are dropped from the slots."""


@dataclass(frozen=True, eq=False)
class DecodeRequest:
    """A window to be decoded."""

    encoder_states: Float[Tensor, "positions width"]
    prompt_tokens: tuple[int, ...]
    """The tokens before the transcript: an optional prompt, then <|startoftranscript|> and what follows it."""
    draft_encoder_states: Float[Tensor, "positions draft_width"] | None = None
    """What the draft's own encoder says; None where it is the network's."""
    temperature: float = 0.0
    seed: int = 0
    """Of the noise, where the temperature is above 0."""
    forced_prefix: tuple[int, ...] = ()
    """The tokens at the end of `prompt_tokens` after which the rules go on as if the network had said them."""
    max_new_tokens: int = MAX_NEW_TOKENS
    request_id: object = None
    """Whatever the caller knows it by."""


@dataclass
class _SlotState:
    """Who sits in a slot."""

    request: DecodeRequest
    buffer_row: int
    no_speech_prob: float


@dataclass
class BatchScheduler:
    """`batch_size` slots of a network, all under the same rules.

    `top_k` as in `TokenStatsBuffer`: with it the whole distribution is observed. `make_draft` is told the number of
    slots and their tokens. `deterministic` fixes all shapes; `block_sizes` must then be a single one.
    """

    network: Whisper
    logit_filter: LogitFilter
    batch_size: int
    top_k: int = 0
    make_draft: Callable[[int, int], DraftModel] | None = None
    block_sizes: tuple[int, ...] = (1,)
    deterministic: bool = False
    length_controller: DraftLengthController | None = None
    speculative_stats: SpeculativeStats = field(default_factory=SpeculativeStats)

    def __post_init__(self) -> None:
        if min(self.block_sizes) < 1 or (self.deterministic and len(self.block_sizes) > 1):
            raise ValueError(
                f"block_sizes must be at least 1, and exactly one when deterministic, got {self.block_sizes}"
            )
        if self.make_draft is None and self.block_sizes != (1,):
            raise ValueError(f"without a draft model block_sizes must be (1,), got {self.block_sizes}")
        dims, device, max_block_size = self.network.dims, self.network.device, max(self.block_sizes)
        self._capacity = dims.max_target_positions + max_block_size
        self._kv_cache: StaticKVCache | None = None  # made with the first window: its length is not known before
        self._draft = self.make_draft(self.batch_size, self._capacity) if self.make_draft else None
        self._length_controller = self.length_controller or DraftLengthController(self.block_sizes)
        self._stats_buffer = TokenStatsBuffer(
            self.batch_size + 1,
            dims.max_target_positions + max_block_size,
            self.batch_size * max_block_size,
            self.top_k,
            self.network,
        )
        self._output_layer = self.network.decoder.output_layer(self.batch_size * max_block_size)
        self._slot_states: list[_SlotState | None] = [None] * self.batch_size if self.deterministic else []
        self._free_buffer_rows = list(range(self.batch_size))[
            ::-1
        ]  # of the record; what empty rows say goes to one that nobody reads
        zeros = torch.zeros(self.batch_size, dtype=torch.long, device=device)
        self._sequence = torch.zeros(self.batch_size, self._capacity, dtype=torch.long, device=device)
        self._length, self._prompt_length, self._max_new_tokens = zeros + 1, zeros.clone(), zeros.clone()
        self._buffer_row, self._seed = zeros + self.batch_size, zeros.clone()
        self._temperature = torch.zeros(self.batch_size, device=device)
        self._running = torch.zeros(self.batch_size, dtype=torch.bool, device=device)
        self._history = TokenHistory.empty(len(self._slot_states), device)
        self._greedy = True  # whether all temperatures are 0

    @property
    def num_free_slots(self) -> int:
        """Slots that a window can take now."""
        return self.batch_size - self.num_busy_slots

    @property
    def num_busy_slots(self) -> int:
        """Windows being decoded."""
        return sum(slot is not None for slot in self._slot_states)

    @torch.inference_mode()
    def add_requests(self, requests: Sequence[DecodeRequest]) -> None:
        """Windows for free slots. Raises `ValueError` when there are too few, or a window's start fills all tokens."""
        if len(requests) > self.num_free_slots:
            raise ValueError(f"{len(requests)} windows for {self.num_free_slots} free slots")
        start_time, draft_seconds_before = time.perf_counter(), self.speculative_stats.draft_seconds
        groups: dict[int, list[DecodeRequest]] = {}
        for request in requests:
            groups.setdefault(len(request.prompt_tokens), []).append(request)
        for group in groups.values():
            # One by one where shapes are fixed: a window must not know how many others came with it.
            for batch in [[request] for request in group] if self.deterministic else [group]:
                self._prefill(batch)
        elapsed = time.perf_counter() - start_time
        self.speculative_stats.verify_seconds += elapsed - (self.speculative_stats.draft_seconds - draft_seconds_before)

    @torch.inference_mode()
    def step(self) -> list[tuple[DecodeRequest, DecodingResult]]:
        """One block for all rows; gives the windows that are done, which leave their slots."""
        if not self.deterministic:
            self._compact()
        num_rows = self.batch_size if self.deterministic else len(self._slot_states)
        assert self._kv_cache is not None and num_rows
        self._kv_cache.set_num_rows(num_rows)
        start_time = time.perf_counter()
        block_size = self._length_controller.choose_block_size(num_rows)
        state = self._decode_state(num_rows)
        proposed = self._sequence[:num_rows, :0]
        if block_size > 1 and self._draft is not None:
            proposed = self._draft.propose(state, block_size - 1)
        drafted_time = time.perf_counter()
        choice, histories = self._choose(state, proposed)
        num_agreed = (choice[:, :-1] == proposed).long().cumprod(1).sum(1)
        is_end = choice == self.logit_filter.vocabulary.end_of_text
        until_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, block_size + 1)
        remaining = self._max_new_tokens[:num_rows] - (state.length - self._prompt_length[:num_rows])
        num_taken = torch.minimum(torch.minimum(num_agreed + 1, until_end), remaining) * self._running[:num_rows]
        positions = state.length[:, None] + torch.arange(block_size, device=choice.device)
        self._sequence[:num_rows].scatter_(1, positions.clamp(max=self._capacity - 1), choice)
        self._length[:num_rows] = state.length + num_taken
        self._history = TokenHistory.gather(histories, num_taken)
        ended = until_end <= num_taken
        finished = self._running[:num_rows] & (ended | (num_taken >= remaining))
        results = (
            [self._finish(row, bool(ended[row])) for row in finished.nonzero()[:, 0].tolist()] if finished.any() else []
        )
        self._update_stats(block_size, num_rows, num_taken, num_agreed, start_time, drafted_time)
        return results

    def run(self, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
        """What each of these windows gives, in their order; they may be more than there are slots."""
        waiting, results = deque(requests), dict[int, DecodingResult]()
        while waiting or self.num_busy_slots:
            self.add_requests([waiting.popleft() for _ in range(min(self.num_free_slots, len(waiting)))])
            results |= {id(request): result for request, result in self.step()}
        return [results[id(request)] for request in requests]

    def _decode_state(self, num_rows: int) -> DecodeState:
        sampler = Sampler(self._temperature[:num_rows], self._seed[:num_rows], self._greedy)
        return DecodeState(self._sequence[:num_rows], self._length[:num_rows].clone(), self._history, sampler)

    def _choose(
        self, state: DecodeState, proposed: Int[Tensor, "rows draft_tokens"]
    ) -> tuple[Int[Tensor, "rows block"], list[TokenHistory]]:
        """The network's own choice at each place of a block, and what is known of each row after so many of them."""
        assert self._kv_cache is not None
        num_rows, block_size = len(proposed), proposed.shape[1] + 1
        timestamp_begin = self.logit_filter.vocabulary.timestamp_begin
        position = state.length - 1  # of the last token so far: it is read again, before what may follow it
        last_token = state.sequence.gather(1, position[:, None])
        hidden = self.network.decoder(torch.cat((last_token, proposed), 1), position, self._kv_cache).flatten(0, 1)
        logits = self._output_layer(hidden)
        buffer_rows = self._buffer_row[:num_rows].repeat_interleave(block_size)
        next_position = (position[:, None] + 1 + torch.arange(block_size, device=position.device)).flatten()
        step = (next_position - self._prompt_length[:num_rows].repeat_interleave(block_size)).clamp(
            0, self._stats_buffer.tokens.shape[1] - 1
        )
        self._stats_buffer.record_distribution(buffer_rows, step, logits, hidden)
        # Token i is chosen under the rules for the proposed tokens before it: where those are not the network's own, it
        # does not count anyway.
        histories = state.history.after_each(proposed, timestamp_begin)
        logits = self.logit_filter.apply(logits, TokenHistory.flatten(histories))
        tokens = state.sampler.repeat_interleave(block_size).sample(logits, next_position, self.logit_filter.token_ids)
        self._stats_buffer.record_choice(buffer_rows, step, logits, tokens)
        choice = tokens.view(num_rows, block_size)
        return choice, [
            state.history,
            *(history.appended(choice[:, i], timestamp_begin) for i, history in enumerate(histories)),
        ]

    def _prefill(self, requests: list[DecodeRequest]) -> None:
        network, vocabulary = self.network, self.logit_filter.vocabulary
        rows = self._allocate_rows(len(requests))
        encoder_states = torch.stack([request.encoder_states for request in requests])
        prompt_tokens = torch.tensor([request.prompt_tokens for request in requests], device=network.device)
        prompt_length = prompt_tokens.shape[1]
        if prompt_length >= network.dims.max_target_positions:
            raise ValueError(
                f"{prompt_length} tokens before a transcript leave no room among {network.dims.max_target_positions}"
            )
        if self._kv_cache is None:
            self._kv_cache = network.decoder.static_cache(
                self.batch_size, encoder_states.shape[1], self._capacity, self.deterministic
            )
        prefill_cache = network.decoder.prefill(encoder_states)
        hidden = network.decoder(prompt_tokens, prompt_tokens.new_zeros(len(requests)), prefill_cache)
        self._kv_cache.insert_rows(rows, prefill_cache)
        no_speech_probs = compute_no_speech_probs(network, hidden, prompt_tokens, vocabulary).tolist()
        if self._draft is not None:
            start_time = time.perf_counter()
            draft_encoder_states = [
                request.encoder_states if request.draft_encoder_states is None else request.draft_encoder_states
                for request in requests
            ]
            self._draft.prefill(rows, torch.stack(draft_encoder_states), prompt_tokens)
            self.speculative_stats.draft_seconds += time.perf_counter() - start_time
        self._sequence[rows, :prompt_length] = prompt_tokens
        self._length[rows] = self._prompt_length[rows] = prompt_length
        for row, request, no_speech_prob in zip(rows, requests, no_speech_probs, strict=True):
            buffer_row = self._free_buffer_rows.pop()
            self._slot_states[row] = _SlotState(request, buffer_row, no_speech_prob)
            self._buffer_row[row], self._seed[row], self._temperature[row] = (
                buffer_row,
                request.seed,
                request.temperature,
            )
            self._max_new_tokens[row] = max(
                1, min(request.max_new_tokens, network.dims.max_target_positions - prompt_length)
            )
        self._running[rows] = True
        self._history.reset_rows(rows, len(self._slot_states))
        for row, request in zip(rows, requests, strict=True):
            self._history.prime(row, request.forced_prefix, vocabulary.timestamp_begin)
        self._greedy = all(row is None or row.request.temperature == 0 for row in self._slot_states)

    def _allocate_rows(self, count: int) -> list[int]:
        """Free rows, the first ones first."""
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
        self._length[row], self._buffer_row[row] = (
            1,
            self.batch_size,
        )  # an empty row reads its first token again and again
        return slot.request, result

    def _compact(self) -> None:
        """Drop empty rows where they have become many: nobody came to take them."""
        if self.num_busy_slots > COMPACT_BELOW_BUSY_FRACTION * len(self._slot_states):
            return
        assert self._kv_cache is not None
        busy_rows = torch.tensor(
            [row for row, slot in enumerate(self._slot_states) if slot is not None], device=self._length.device
        )
        order = self._kv_cache.keep_rows(busy_rows)
        if self._draft is not None:
            self._draft.select_rows(order)
        self._history.select_rows(order)
        for tensor in (
            self._sequence,
            self._length,
            self._prompt_length,
            self._max_new_tokens,
            self._buffer_row,
            self._seed,
        ):
            tensor[: len(order)] = tensor[order]
        self._temperature[: len(order)], self._running[: len(order)] = self._temperature[order], self._running[order]
        self._running[len(order) :] = False
        self._slot_states = [self._slot_states[row] for row in order.tolist()]

    def _update_stats(
        self,
        block_size: int,
        num_rows: int,
        num_taken: Int[Tensor, "rows"],
        num_agreed: Int[Tensor, "rows"],
        start_time: float,
        drafted_time: float,
    ) -> None:
        now = time.perf_counter()
        running = num_taken > 0
        accepted_per_row = torch.minimum(num_agreed, num_taken)[running]
        # Of a row's proposals those up to the first wrong one were looked at; what stands behind an end was not.
        checked_per_row = torch.minimum(accepted_per_row + 1, torch.full_like(accepted_per_row, block_size - 1))
        accepted = int(accepted_per_row.sum())
        self._length_controller.update(block_size, num_rows, now - start_time, accepted, int(checked_per_row.sum()))
        self.speculative_stats.update(
            int(running.sum()),
            block_size - 1,
            accepted,
            int(num_taken.sum()),
            drafted_time - start_time,
            now - drafted_time,
        )
