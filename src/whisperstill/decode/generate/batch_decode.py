"""A batch of windows decoded together, each row to its end."""

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.draft_model import DraftModel
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.decode.generate.speculative_stats import SpeculativeStats
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS


def decode_batch(
    network: Whisper,
    encoder_states: Float[Tensor, "batch positions width"],
    prompt_tokens: Int[Tensor, "batch prompt"],
    logit_filter: LogitFilter,
    *,
    max_new_tokens: int | Sequence[int] = MAX_NEW_TOKENS,
    top_k: int = 0,
    make_draft: Callable[[int, int], DraftModel] | None = None,
    block_sizes: tuple[int, ...] = (1,),
    deterministic: bool = False,
) -> tuple[list[DecodingResult], SpeculativeStats]:
    """The most probable token at each step, until <|endoftext|> or `max_new_tokens` (of all, or of each row): greedy
    decoding.

    Everything as in `BatchScheduler`; a draft changes nothing but the time it takes.
    """
    scheduler = BatchScheduler(
        network, logit_filter, len(encoder_states), top_k, make_draft, block_sizes, deterministic
    )
    limits = [max_new_tokens] * len(encoder_states) if isinstance(max_new_tokens, int) else max_new_tokens
    requests = [
        DecodeRequest(window_states, tuple(tokens), max_new_tokens=limit)
        for window_states, tokens, limit in zip(encoder_states, prompt_tokens.tolist(), limits, strict=True)
    ]
    return scheduler.run(requests), scheduler.speculative_stats
