"""A batch of windows decoded together, each row to its end."""

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.decode.drafts import Draft
from whisperstill.decode.observed import Decoded
from whisperstill.decode.pool import Job, Pool
from whisperstill.decode.rules import Rules
from whisperstill.decode.speculation import Speculation
from whisperstill.model.whisper import Whisper
from whisperstill.units import MAX_NEW_TOKENS


def decode_batch(
    network: Whisper,
    states: Float[Tensor, "batch positions width"],
    start: Int[Tensor, "batch prompt"],
    rules: Rules,
    *,
    max_new_tokens: int | Sequence[int] = MAX_NEW_TOKENS,
    top: int = 0,
    make_draft: Callable[[int, int], Draft] | None = None,
    blocks: tuple[int, ...] = (1,),
    exact: bool = False,
) -> tuple[list[Decoded], Speculation]:
    """The most probable token at each step, until <|endoftext|> or `max_new_tokens` (of all, or of each row): greedy
    decoding.

    Everything as in `Pool`; a draft changes nothing but the time it takes.
    """
    pool = Pool(network, rules, len(states), top, make_draft, blocks, exact)
    most = [max_new_tokens] * len(states) if isinstance(max_new_tokens, int) else max_new_tokens
    jobs = [
        Job(state, tuple(tokens), max_new_tokens=limit)
        for state, tokens, limit in zip(states, start.tolist(), most, strict=True)
    ]
    return pool.run(jobs), pool.counts
