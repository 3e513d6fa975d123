"""What a decoded window is, and what the network thought at each of its steps.

The observation (log-sum-exp at T = 1 and 2, top-k, entropy) is read off the logits that decoding computes anyway:
recording it costs no further visit of the network.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary


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
    allowed: Float[Tensor, "steps"]
    """Natural-log probability of the token taken among those that the rules let through."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was decoded of one window."""

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


def silences(
    network: Whisper,
    hidden: Float[Tensor, "rows prompt width"],
    start: Int[Tensor, "rows prompt"],
    vocabulary: Vocabulary,
) -> Float[Tensor, "rows"]:
    """The probability of <|nospeech|> where a transcript would begin: after the last <|startoftranscript|>."""
    behind = (start == vocabulary.start_of_transcript).flip(1).int().argmax(1)
    place = start.shape[1] - 1 - behind
    first = hidden[torch.arange(len(start), device=hidden.device), place]
    return network.decoder.logits(first).softmax(-1)[:, vocabulary.no_speech]


class Record:
    """Per line (a window's) and step, what is observed."""

    def __init__(self, lines: int, steps: int, rows: int, top: int, network: Whisper) -> None:
        """`steps` is the most tokens of a line, `rows` the most that are noted at a time.

        `top` = 0 leaves out all but log-probabilities.
        """

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(lines, steps, *shape, dtype=dtype, device=network.device)

        self.tokens = empty(dtype=torch.long)
        self.logprob, self.allowed, self.entropy, self.lse1, self.lse2 = (empty() for _ in range(5))
        self.top_ids, self.top_logits = empty(top, dtype=torch.long), empty(top)
        self.hidden = empty(network.dims.width if top else 0)
        self.top = top
        self._room = torch.empty(rows, network.dims.vocab, device=network.device)

    def distribution(self, lines: Tensor, step: Tensor, logits: Tensor, hidden: Tensor) -> None:
        """Before any rule. What is noted again for a line's step replaces what was noted before."""
        if self.top:
            room = self._room[: len(lines)]
            self.lse1[lines, step], self.lse2[lines, step], self.entropy[lines, step] = observe(logits, room)
            self.top_logits[lines, step], self.top_ids[lines, step] = logits.topk(self.top, dim=-1)
            self.hidden[lines, step] = hidden.float()
        else:
            self.lse1[lines, step] = self._logsumexp(logits)

    def choice(self, lines: Tensor, step: Tensor, logits: Tensor, tokens: Tensor) -> None:
        """After all rules, which leave the logit of what they let through as it was."""
        taken = logits.gather(1, tokens[:, None])[:, 0]
        self.tokens[lines, step] = tokens
        self.logprob[lines, step] = taken - self.lse1[lines, step]
        self.allowed[lines, step] = taken - self._logsumexp(logits)

    def decoded(self, line: int, steps: int, ended: bool, silence: float) -> Decoded:
        """What a line's first steps gave; the end token is observed, but not among the tokens."""
        tokens = tuple(self.tokens[line, : steps - ended].tolist())
        fields = (self.logprob, self.entropy, self.lse1, self.lse2, self.top_ids, self.top_logits)
        observed = (field[line, :steps].cpu().clone() for field in (*fields, self.hidden, self.allowed))
        return Decoded(tokens, ended, silence, Observed(*observed))

    def _logsumexp(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
        largest = logits.amax(-1, keepdim=True)
        room = torch.sub(logits, largest, out=self._room[: len(logits)])
        return room.exp_().sum(-1).log() + largest[:, 0]
