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
class TokenStats:
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
    filtered_logprob: Float[Tensor, "steps"]
    """Natural-log probability of the token taken among those that the rules let through."""


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """What was decoded of one window."""

    tokens: tuple[int, ...]
    """Without start and end tokens; timestamps where the rules ask for them."""
    ended: bool
    """Whether the network ended by itself."""
    no_speech_prob: float
    """Probability of <|nospeech|> where a transcript would begin."""
    token_stats: TokenStats


def token_stats(
    logits: Float[Tensor, "rows vocab"], scratch: Float[Tensor, "rows vocab"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Log-sum-exp at T = 1 and at T = 2, and entropy, by one exponential: exp(l / 2) squared is exp(l).

    `scratch` is overwritten.
    """
    max_logit = logits.amax(-1, keepdim=True)
    exp_half = torch.sub(logits, max_logit, out=scratch).mul_(0.5).exp_()
    sum2 = exp_half.sum(-1)
    exp_full = exp_half.mul_(exp_half)
    sum1 = exp_full.sum(-1)
    lse1 = max_logit[:, 0] + sum1.log()
    return lse1, max_logit[:, 0] / 2 + sum2.log(), lse1 - torch.linalg.vecdot(exp_full, logits) / sum1


def compute_no_speech_probs(
    network: Whisper,
    hidden: Float[Tensor, "rows prompt width"],
    prompt_tokens: Int[Tensor, "rows prompt"],
    vocabulary: Vocabulary,
) -> Float[Tensor, "rows"]:
    """The probability of <|nospeech|> where a transcript would begin: after the last <|startoftranscript|>."""
    tokens_after_sot = (prompt_tokens == vocabulary.start_of_transcript).flip(1).int().argmax(1)
    sot_index = prompt_tokens.shape[1] - 1 - tokens_after_sot
    sot_hidden = hidden[torch.arange(len(prompt_tokens), device=hidden.device), sot_index]
    return network.decoder.logits(sot_hidden).softmax(-1)[:, vocabulary.no_speech]


class TokenStatsBuffer:
    """Per line (a window's) and step, what is observed."""

    def __init__(self, num_rows: int, max_steps: int, max_tokens_per_update: int, top_k: int, network: Whisper) -> None:
        """`max_steps` is the most tokens of a line, `max_tokens_per_update` the most that are noted at a time.

        `top_k` = 0 leaves out all but log-probabilities.
        """

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(num_rows, max_steps, *shape, dtype=dtype, device=network.device)

        self.tokens = zeros(dtype=torch.long)
        self.logprob, self.allowed, self.entropy, self.lse1, self.lse2 = (zeros() for _ in range(5))
        self.top_ids, self.top_logits = zeros(top_k, dtype=torch.long), zeros(top_k)
        self.hidden = zeros(network.dims.width if top_k else 0)
        self.top_k = top_k
        self._scratch = torch.empty(max_tokens_per_update, network.dims.vocab_size, device=network.device)

    def record_distribution(self, buffer_rows: Tensor, step: Tensor, logits: Tensor, hidden: Tensor) -> None:
        """Before any rule. What is noted again for a line's step replaces what was noted before."""
        if self.top_k:
            scratch = self._scratch[: len(buffer_rows)]
            self.lse1[buffer_rows, step], self.lse2[buffer_rows, step], self.entropy[buffer_rows, step] = token_stats(
                logits, scratch
            )
            self.top_logits[buffer_rows, step], self.top_ids[buffer_rows, step] = logits.topk(self.top_k, dim=-1)
            self.hidden[buffer_rows, step] = hidden.float()
        else:
            self.lse1[buffer_rows, step] = self._logsumexp(logits)

    def record_choice(self, buffer_rows: Tensor, step: Tensor, logits: Tensor, tokens: Tensor) -> None:
        """After all rules, which leave the logit of what they let through as it was."""
        chosen_logit = logits.gather(1, tokens[:, None])[:, 0]
        self.tokens[buffer_rows, step] = tokens
        self.logprob[buffer_rows, step] = chosen_logit - self.lse1[buffer_rows, step]
        self.allowed[buffer_rows, step] = chosen_logit - self._logsumexp(logits)

    def build_result(self, buffer_row: int, num_steps: int, ended: bool, no_speech_prob: float) -> DecodingResult:
        """What a line's first steps gave; the end token is observed, but not among the tokens."""
        tokens = tuple(self.tokens[buffer_row, : num_steps - ended].tolist())
        fields = (self.logprob, self.entropy, self.lse1, self.lse2, self.top_ids, self.top_logits)
        stats = (field[buffer_row, :num_steps].cpu().clone() for field in (*fields, self.hidden, self.allowed))
        return DecodingResult(tokens, ended, no_speech_prob, TokenStats(*stats))

    def _logsumexp(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
        max_logit = logits.amax(-1, keepdim=True)
        scratch = torch.sub(logits, max_logit, out=self._scratch[: len(logits)])
        return scratch.exp_().sum(-1).log() + max_logit[:, 0]
