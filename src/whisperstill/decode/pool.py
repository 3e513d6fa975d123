"""Slots that windows are decoded in, many at a time and each at a step of its own.

A window whose transcript ends leaves its slot to the next one, of whatever recording. A step is a block: the last token
of each row, and what a draft proposes to follow it. The network reads the block at once, and token i of its choices
stands only if every token before it is the network's own choice, made under the same rules: whatever is proposed, the
output is what one token after the other gives. Rows accept as they please; a rejected token is overwritten by the next
block, and nobody waits for the worst (the roll-back of a batch to its shortest row is what makes the method of the
paper slower than greedy at batch 16). Without a draft a block is a single token: greedy decoding is the same code.

A block's logits and a single token's differ by rounding, in float32 by about 5e-6, in bf16 by about 4e-2, where two
nearly equal logits may change places, as they may between any two batches of greedy decoding. With `exact` blocks all
shapes stay as they are (rows, tokens, keys), whatever is proposed and accepted: outputs are then equal to the last bit
to those of the same blocks with useless proposals, in every type.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.drafts import Draft, Sofar
from whisperstill.decode.observed import Decoded, Record, silences
from whisperstill.decode.pace import Pace
from whisperstill.decode.rules import History, Rules
from whisperstill.decode.sampling import Draw
from whisperstill.decode.speculation import Speculation
from whisperstill.model.cache import Slots
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS

COMPACT_BELOW = 0.75
"""Rows still running, as a share of those held, below which finished rows are dropped from the slots."""


@dataclass(frozen=True, eq=False)
class Job:
    """A window to be decoded."""

    states: Float[Tensor, "positions width"]
    start: tuple[int, ...]
    """The tokens before the transcript: an optional prompt, then <|startoftranscript|> and what follows it."""
    draft_states: Float[Tensor, "positions draft_width"] | None = None
    """What the draft's own encoder says; None where it is the network's."""
    temperature: float = 0.0
    key: int = 0
    """Of the noise, where the temperature is above 0."""
    said: tuple[int, ...] = ()
    """The tokens at the end of `start` after which the rules go on as if the network had said them."""
    max_new_tokens: int = MAX_NEW_TOKENS
    mark: object = None
    """Whatever the caller knows it by."""


@dataclass
class _Row:
    """Who sits in a slot."""

    job: Job
    line: int
    silence: float


@dataclass
class Pool:
    """`size` slots of a network, all under the same rules.

    `top` as in `Record`: with it the whole distribution is observed. `make_draft` is told the number of slots and
    their tokens. `exact` fixes all shapes; `blocks` must then be a single one.
    """

    network: Whisper
    rules: Rules
    size: int
    top: int = 0
    make_draft: Callable[[int, int], Draft] | None = None
    blocks: tuple[int, ...] = (1,)
    exact: bool = False
    pace: Pace | None = None
    counts: Speculation = field(default_factory=Speculation)

    def __post_init__(self) -> None:
        if min(self.blocks) < 1 or (self.exact and len(self.blocks) > 1):
            raise ValueError(f"blocks must be at least 1, and a single one where they are exact, got {self.blocks}")
        if self.make_draft is None and self.blocks != (1,):
            raise ValueError(f"without a draft blocks hold one token, got {self.blocks}")
        dims, device, widest = self.network.dims, self.network.device, max(self.blocks)
        self._capacity = dims.tokens + widest
        self._slots: Slots | None = None  # made with the first window: its length is not known before
        self._draft = self.make_draft(self.size, self._capacity) if self.make_draft else None
        self._pace = self.pace or Pace(self.blocks)
        self._record = Record(self.size + 1, dims.tokens + widest, self.size * widest, self.top, self.network)
        self._output = self.network.decoder.output(self.size * widest)
        self._rows: list[_Row | None] = [None] * self.size if self.exact else []
        self._lines = list(range(self.size))[::-1]  # of the record; what empty rows say goes to one that nobody reads
        whole = torch.zeros(self.size, dtype=torch.long, device=device)
        self._sequence = torch.zeros(self.size, self._capacity, dtype=torch.long, device=device)
        self._length, self._prompt, self._limit = whole + 1, whole.clone(), whole.clone()
        self._line, self._key = whole + self.size, whole.clone()
        self._temperature = torch.zeros(self.size, device=device)
        self._running = torch.zeros(self.size, dtype=torch.bool, device=device)
        self._history = History.empty(len(self._rows), device)
        self._greedy = True  # whether all temperatures are 0

    @property
    def free(self) -> int:
        """Slots that a window can take now."""
        return self.size - self.busy

    @property
    def busy(self) -> int:
        """Windows being decoded."""
        return sum(row is not None for row in self._rows)

    @torch.inference_mode()
    def put(self, jobs: Sequence[Job]) -> None:
        """Windows for free slots. Raises `ValueError` when there are too few, or a window's start fills all tokens."""
        if len(jobs) > self.free:
            raise ValueError(f"{len(jobs)} windows for {self.free} free slots")
        begun, drafted = time.perf_counter(), self.counts.draft_seconds
        groups: dict[int, list[Job]] = {}
        for job in jobs:
            groups.setdefault(len(job.start), []).append(job)
        for group in groups.values():
            # One by one where shapes are fixed: a window must not know how many others came with it.
            for some in [[job] for job in group] if self.exact else [group]:
                self._begin(some)
        took = time.perf_counter() - begun
        self.counts.verify_seconds += took - (self.counts.draft_seconds - drafted)

    @torch.inference_mode()
    def step(self) -> list[tuple[Job, Decoded]]:
        """One block for all rows; gives the windows that are done, which leave their slots."""
        if not self.exact:
            self._compact()
        rows = self.size if self.exact else len(self._rows)
        assert self._slots is not None and rows
        self._slots.use(rows)
        begun = time.perf_counter()
        block = self._pace.choose(rows)
        sofar = self._sofar(rows)
        proposed = self._sequence[:rows, :0]
        if block > 1 and self._draft is not None:
            proposed = self._draft.propose(sofar, block - 1)
        drafted = time.perf_counter()
        choice, steps = self._choose(sofar, proposed)
        agreed = (choice[:, :-1] == proposed).long().cumprod(1).sum(1)
        is_end = choice == self.rules.vocabulary.end_of_text
        until_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, block + 1)
        left = self._limit[:rows] - (sofar.length - self._prompt[:rows])
        taken = torch.minimum(torch.minimum(agreed + 1, until_end), left) * self._running[:rows]
        at = sofar.length[:, None] + torch.arange(block, device=choice.device)
        self._sequence[:rows].scatter_(1, at.clamp(max=self._capacity - 1), choice)
        self._length[:rows] = sofar.length + taken
        self._history = History.at(steps, taken)
        ended = until_end <= taken
        over = self._running[:rows] & (ended | (taken >= left))
        done = [self._end(row, bool(ended[row])) for row in over.nonzero()[:, 0].tolist()] if over.any() else []
        self._count(block, rows, taken, agreed, begun, drafted)
        return done

    def run(self, jobs: Sequence[Job]) -> list[Decoded]:
        """What each of these windows gives, in their order; they may be more than there are slots."""
        waiting, found = deque(jobs), dict[int, Decoded]()
        while waiting or self.busy:
            self.put([waiting.popleft() for _ in range(min(self.free, len(waiting)))])
            found |= {id(job): decoded for job, decoded in self.step()}
        return [found[id(job)] for job in jobs]

    def _sofar(self, rows: int) -> Sofar:
        draw = Draw(self._temperature[:rows], self._key[:rows], self._greedy)
        return Sofar(self._sequence[:rows], self._length[:rows].clone(), self._history, draw)

    def _choose(
        self, sofar: Sofar, proposed: Int[Tensor, "rows drafted"]
    ) -> tuple[Int[Tensor, "rows block"], list[History]]:
        """The network's own choice at each place of a block, and what is known of each row after so many of them."""
        assert self._slots is not None
        rows, block = len(proposed), proposed.shape[1] + 1
        begin = self.rules.vocabulary.timestamp_begin
        position = sofar.length - 1  # of the last token so far: it is read again, before what may follow it
        last = sofar.sequence.gather(1, position[:, None])
        hidden = self.network.decoder(torch.cat((last, proposed), 1), position, self._slots).flatten(0, 1)
        logits = self._output(hidden)
        lines = self._line[:rows].repeat_interleave(block)
        place = (position[:, None] + 1 + torch.arange(block, device=position.device)).flatten()
        step = (place - self._prompt[:rows].repeat_interleave(block)).clamp(0, self._record.tokens.shape[1] - 1)
        self._record.distribution(lines, step, logits, hidden)
        # Token i is chosen under the rules for the proposed tokens before it: where those are not the network's own, it
        # does not count anyway.
        known = sofar.history.along(proposed, begin)
        logits = self.rules.apply(logits, History.rows(known))
        tokens = sofar.draw.repeat(block).take(logits, place, self.rules.ids)
        self._record.choice(lines, step, logits, tokens)
        choice = tokens.view(rows, block)
        return choice, [sofar.history, *(one.with_next(choice[:, i], begin) for i, one in enumerate(known))]

    def _begin(self, jobs: list[Job]) -> None:
        network, vocabulary = self.network, self.rules.vocabulary
        rows = self._places(len(jobs))
        states = torch.stack([job.states for job in jobs])
        start = torch.tensor([job.start for job in jobs], device=network.device)
        prompt = start.shape[1]
        if prompt >= network.dims.tokens:
            raise ValueError(f"{prompt} tokens before a transcript leave no room among {network.dims.tokens}")
        if self._slots is None:
            self._slots = network.decoder.slots(self.size, states.shape[1], self._capacity, self.exact)
        beginning = network.decoder.beginning(states)
        hidden = network.decoder(start, start.new_zeros(len(jobs)), beginning)
        self._slots.put(rows, beginning)
        silence = silences(network, hidden, start, vocabulary).tolist()
        if self._draft is not None:
            begun = time.perf_counter()
            heard = [job.states if job.draft_states is None else job.draft_states for job in jobs]
            self._draft.put(rows, torch.stack(heard), start)
            self.counts.draft_seconds += time.perf_counter() - begun
        self._sequence[rows, :prompt] = start
        self._length[rows] = self._prompt[rows] = prompt
        for row, job, quiet in zip(rows, jobs, silence, strict=True):
            line = self._lines.pop()
            self._rows[row] = _Row(job, line, quiet)
            self._line[row], self._key[row], self._temperature[row] = line, job.key, job.temperature
            self._limit[row] = max(1, min(job.max_new_tokens, network.dims.tokens - prompt))
        self._running[rows] = True
        self._history.put(rows, len(self._rows))
        for row, job in zip(rows, jobs, strict=True):
            self._history.say(row, job.said, vocabulary.timestamp_begin)
        self._greedy = all(row is None or row.job.temperature == 0 for row in self._rows)

    def _places(self, count: int) -> list[int]:
        """Free rows, the first ones first."""
        gaps = [row for row, taken in enumerate(self._rows) if taken is None][:count]
        fresh = range(len(self._rows), len(self._rows) + count - len(gaps))
        self._rows += [None] * len(fresh)
        return [*gaps, *fresh]

    def _end(self, row: int, ended: bool) -> tuple[Job, Decoded]:
        sitting = self._rows[row]
        assert sitting is not None
        steps = int(self._length[row] - self._prompt[row])
        decoded = self._record.decoded(sitting.line, steps, ended, sitting.silence)
        self._lines.append(sitting.line)
        self._rows[row] = None
        self._running[row] = False
        self._length[row], self._line[row] = 1, self.size  # an empty row reads its first token again and again
        return sitting.job, decoded

    def _compact(self) -> None:
        """Drop empty rows where they have become many: nobody came to take them."""
        if self.busy > COMPACT_BELOW * len(self._rows):
            return
        assert self._slots is not None
        running = torch.tensor(
            [row for row, taken in enumerate(self._rows) if taken is not None], device=self._length.device
        )
        order = self._slots.keep(running)
        if self._draft is not None:
            self._draft.keep(order)
        self._history.keep(order)
        for tensor in (self._sequence, self._length, self._prompt, self._limit, self._line, self._key):
            tensor[: len(order)] = tensor[order]
        self._temperature[: len(order)], self._running[: len(order)] = self._temperature[order], self._running[order]
        self._running[len(order) :] = False
        self._rows = [self._rows[row] for row in order.tolist()]

    def _count(
        self,
        block: int,
        rows: int,
        taken: Int[Tensor, "rows"],
        agreed: Int[Tensor, "rows"],
        begun: float,
        drafted: float,
    ) -> None:
        now = time.perf_counter()
        running = taken > 0
        stood = torch.minimum(agreed, taken)[running]
        # Of a row's proposals those up to the first wrong one were looked at; what stands behind an end was not.
        asked = torch.minimum(stood + 1, torch.full_like(stood, block - 1))
        accepted = int(stood.sum())
        self._pace.note(block, rows, now - begun, accepted, int(asked.sum()))
        self.counts.note(int(running.sum()), block - 1, accepted, int(taken.sum()), drafted - begun, now - drafted)
