"""Batches of windows decoded directly by a scheduler, with its statistics."""

from collections.abc import Callable, Sequence

from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_length import DraftLengthController
from whisperstill.decode.generate.draft_model import DraftModel
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS


def make_scheduler(
    network: Whisper,
    logit_filter: LogitFilter,
    batch_size: int,
    *,
    top_k: int = 0,
    make_draft: Callable[[int, int], DraftModel] | None = None,
    block_sizes: tuple[int, ...] = (1,),
    deterministic: bool = False,
) -> BatchScheduler:
    """A scheduler with a new length controller."""
    controller = DraftLengthController(block_sizes)
    return BatchScheduler(network, logit_filter, batch_size, top_k, make_draft, controller, deterministic)


def run(scheduler: BatchScheduler, requests: Sequence[DecodeRequest]) -> list[DecodingResult]:
    """Results of these requests, in order."""
    return scheduler.generate(requests)


def decode_batch(
    network: Whisper,
    encoder_states: Tensor,
    prompt_tokens: Tensor,
    logit_filter: LogitFilter,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    top_k: int = 0,
    make_draft: Callable[[int, int], DraftModel] | None = None,
    block_sizes: tuple[int, ...] = (1,),
    deterministic: bool = False,
) -> tuple[list[DecodingResult], SpeculativeStats]:
    """Greedy results of windows in one batch, and the statistics of the scheduler."""
    scheduler = make_scheduler(
        network,
        logit_filter,
        len(encoder_states),
        top_k=top_k,
        make_draft=make_draft,
        block_sizes=block_sizes,
        deterministic=deterministic,
    )
    requests = [
        DecodeRequest(window_states, tuple(tokens), max_new_tokens=max_new_tokens)
        for window_states, tokens in zip(encoder_states, prompt_tokens.tolist(), strict=True)
    ]
    return run(scheduler, requests), scheduler.speculative_stats
