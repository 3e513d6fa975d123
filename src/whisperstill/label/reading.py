"""What a teacher thinks of a transcript that somebody else wrote: it reads it instead of writing its own.

The tokens are the text's, all else is as if the teacher had written them: its distribution at every token, how sure it
was, what it would have said of the end. One pass over a whole batch, packed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.observed import Decoded, Observed, observe, silences
from whisperstill.decode.recogniser import Recogniser

ROWS = 64
"""Tokens whose logits exist at a time."""


@torch.inference_mode()
def read(
    teacher: Recogniser,
    states: Float[Tensor, "batch positions width"],
    languages: Sequence[str],
    texts: Sequence[str],
    *,
    task: str = "transcribe",
    top: int,
    max_new_tokens: int,
) -> list[Decoded]:
    """The texts of windows as if the teacher had decoded them; cut after `max_new_tokens`, which are then not ended."""
    network, vocabulary = teacher.network, teacher.vocabulary
    starts = [vocabulary.start(language, task, False) for language in languages]
    written = [teacher.tokens_of(text) for text in texts]
    room = [min(max_new_tokens, network.dims.tokens - len(start)) for start in starts]
    tokens = [one[:most] for one, most in zip(written, room, strict=True)]
    ended = [len(one) < most or len(all_) == most for one, all_, most in zip(tokens, written, room, strict=True)]
    sequences = [torch.tensor([*start, *one]) for start, one in zip(starts, tokens, strict=True)]
    lengths = [len(sequence) for sequence in sequences]
    packed = torch.cat(sequences).to(network.device)
    hidden = network.decoder.packed(packed, lengths, states.to(network.dtype))
    found = []
    for index, own in enumerate(torch.split(hidden, lengths)):
        start = torch.tensor([starts[index]], device=network.device)
        silence = float(silences(network, own[None, : start.shape[1]], start, vocabulary)[0])
        targets = [*tokens[index], *([vocabulary.end_of_text] if ended[index] else [])]
        steps = own[start.shape[1] - 1 :][: len(targets)]
        observed = _observed(teacher, steps, torch.tensor(targets, dtype=torch.long), top)
        found.append(Decoded(tuple(tokens[index]), ended[index], silence, observed))
    return found


def _observed(teacher: Recogniser, hidden: Float[Tensor, "steps width"], targets: Tensor, top: int) -> Observed:
    parts: list[tuple[Tensor, ...]] = []
    for rows, target in zip(torch.split(hidden, ROWS), torch.split(targets, ROWS), strict=True):
        logits = teacher.network.decoder.logits(rows)
        lse1, lse2, entropy = observe(logits, torch.empty_like(logits))
        best, ids = logits.topk(top, dim=-1)
        logprob = logits.gather(1, target[:, None].to(logits.device))[:, 0] - lse1
        parts.append((logprob, entropy, lse1, lse2, ids, best, rows.float()))
    logprob, entropy, lse1, lse2, ids, best, last = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Observed(logprob, entropy, lse1, lse2, ids, best, last, logprob)
