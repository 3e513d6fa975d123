"""What a decoded window is, and what the network thought at each of its steps.

The observation (log-sum-exp at T = 1 and 2, top-k, entropy) is read off the logits that decoding computes anyway:
recording it costs no further visit of the network.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.model.whisper import Whisper


@dataclass(frozen=True, slots=True)
class Observed:
    """What the network thought at each token of its own output; the end token, where there is one, included."""

    logprob: Float[Tensor, "steps"]
    """Natural-log probability of the token taken, before any rule."""
    entropy: Float[Tensor, "steps"]
    """Nats."""
    lse1: Float[Tensor, "steps"]
    """Log-sum-exp of the logits at T = 1."""
    lse2: Float[Tensor, "steps"]
    """Log-sum-exp of half the logits (T = 2)."""
    top_ids: Int[Tensor, "steps k"]
    top_logits: Float[Tensor, "steps k"]
    hidden: Float[Tensor, "steps width"]
    """Normalised last hidden state, from which the logits are."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Greedy output for one window."""

    tokens: tuple[int, ...]
    """Without start and end tokens; timestamps where the rules ask for them."""
    ended: bool
    """Whether the network ended by itself."""
    no_speech: float
    """Probability of <|nospeech|> where a transcript would begin."""
    observed: Observed


def observe(
    logits: Float[Tensor, "rows vocab"], room: Float[Tensor, "rows vocab"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Log-sum-exp at T = 1 and at T = 2, and entropy, by one exponential: exp(l / 2) squared is exp(l).

    `room` is overwritten.
    """
    largest = logits.amax(-1, keepdim=True)
    half = torch.sub(logits, largest, out=room).mul_(0.5).exp_()
    sum2 = half.sum(-1)
    whole = half.mul_(half)
    sum1 = whole.sum(-1)
    lse1 = largest[:, 0] + sum1.log()
    return lse1, largest[:, 0] / 2 + sum2.log(), lse1 - torch.linalg.vecdot(whole, logits) / sum1


class Record:
    """Per row and step, what is observed."""

    def __init__(self, batch: int, steps: int, top: int, network: Whisper) -> None:
        """`steps` is the most tokens of a row; `top` = 0 leaves out all but log-probabilities."""

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(batch, steps, *shape, dtype=dtype, device=network.device)

        self.tokens = empty(dtype=torch.long)
        self.logprob, self.entropy, self.lse1, self.lse2 = (empty() for _ in range(4))
        self.top_ids, self.top_logits = empty(top, dtype=torch.long), empty(top)
        self.hidden = empty(network.dims.width)
        self.top = top
        self._room = torch.empty(batch, network.dims.vocab, device=network.device)

    def distribution(self, rows: Tensor, step: Tensor | int, logits: Tensor, hidden: Tensor) -> None:
        """Before any rule. What is noted again for a row's step replaces what was noted before."""
        room = self._room[: len(rows)]
        if self.top:
            self.lse1[rows, step], self.lse2[rows, step], self.entropy[rows, step] = observe(logits, room)
            self.top_logits[rows, step], self.top_ids[rows, step] = logits.topk(self.top, dim=-1)
            self.hidden[rows, step] = hidden.float()
        else:
            largest = logits.amax(-1, keepdim=True)
            self.lse1[rows, step] = torch.sub(logits, largest, out=room).exp_().sum(-1).log() + largest[:, 0]

    def choice(self, rows: Tensor, step: Tensor | int, logits: Tensor, tokens: Tensor) -> None:
        """After all rules, which leave the logit of what they let through as it was."""
        self.tokens[rows, step] = tokens
        self.logprob[rows, step] = logits.gather(1, tokens[:, None])[:, 0] - self.lse1[rows, step]

    def decoded(
        self, lengths: Int[Tensor, "batch"], ended: Bool[Tensor, "batch"], silence: Float[Tensor, "batch"]
    ) -> list[Decoded]:
        """What was decoded, cut to each row's length; the end token is observed, but not among the tokens."""
        results = []
        for row, steps in enumerate(lengths.tolist()):
            tokens = tuple(self.tokens[row, : steps - bool(ended[row])].tolist())
            results.append(Decoded(tokens, bool(ended[row]), float(silence[row]), self._row(row, steps)))
        return results

    def _row(self, row: int, steps: int) -> Observed:
        return Observed(
            *(
                field[row, :steps].cpu()
                for field in (
                    self.logprob,
                    self.entropy,
                    self.lse1,
                    self.lse2,
                    self.top_ids,
                    self.top_logits,
                    self.hidden,
                )
            )
        )
