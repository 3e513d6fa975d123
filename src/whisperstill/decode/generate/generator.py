"""The one way to decode windows: labelling, validation, evaluation and transcription all go through a `Generator`.

`generate` decodes a list of windows. Where windows arrive one by one, as in transcription, `submit` queues them and
`step` decodes one block of every window in a slot. Beam search is used for requests of temperature 0 if it is set;
all other requests are decoded in the slots of a `BatchScheduler`, with a draft model if it has one.
"""

from collections import deque
from collections.abc import Sequence

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.beam_search import BeamSearch
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.model.whisper import Whisper


class Generator:
    """Queue of decode requests in front of a scheduler and, optionally, a beam search."""

    def __init__(self, scheduler: BatchScheduler, beam_search: BeamSearch | None = None) -> None:
        self.scheduler, self._beam_search = scheduler, beam_search
        self._queue: deque[DecodeRequest] = deque()
        self._beam_queue: deque[DecodeRequest] = deque()

    @property
    def num_free_slots(self) -> int:
        """Slots that are neither busy nor reserved for a queued request."""
        return max(0, self.scheduler.num_free_slots - len(self._queue))

    @property
    def idle(self) -> bool:
        return not (self._queue or self._beam_queue or self.scheduler.num_busy_slots)

    def submit(self, request: DecodeRequest) -> None:
        """Queue a request."""
        by_beam_search = self._beam_search is not None and request.temperature == 0
        (self._beam_queue if by_beam_search else self._queue).append(request)

    def step(self) -> list[tuple[DecodeRequest, DecodingResult]]:
        """Decode one block of every window in a slot, and queued beam searches to their end; return what finished."""
        results: list[tuple[DecodeRequest, DecodingResult]] = []
        # 1. Beam search needs no slot.
        while self._beam_search is not None and self._beam_queue:
            request = self._beam_queue.popleft()
            results.append((request, self._beam_search.decode(request)))
        # 2. Refill free slots.
        new_requests = [self._queue.popleft() for _ in range(min(self.scheduler.num_free_slots, len(self._queue)))]
        if new_requests:
            self.scheduler.add_requests(new_requests)
        # 3. Decode a block.
        if self.scheduler.num_busy_slots:
            results += self.scheduler.step()
        return results

    def generate(self, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
        """Results of these requests, in order; there may be more requests than slots. The generator must be idle."""
        for request in requests:
            self.submit(request)
        results: dict[DecodeRequest, DecodingResult] = {}
        while not self.idle:
            results |= dict(self.step())
        return [results[request] for request in requests]


def generate(network: Whisper, logit_filter: LogitFilter, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
    """Results of these requests decoded in one batch by a bare network, without a draft model."""
    return Generator(BatchScheduler(network, logit_filter, len(requests))).generate(requests)
