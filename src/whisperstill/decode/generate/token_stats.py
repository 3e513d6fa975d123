"""The result of decoding a window, with statistics of the token distribution at each step.

Log-sum-exp (T = 1 and 2), top-k and entropy are computed from the logits of decoding itself: recording them needs no
further pass of the network.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisperstill.model.whisper import Whisper
from whisperstill.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Statistics of each decoded token, including the end token if there is one."""

    logprob: Float[Tensor, "steps"]
    """Natural-log probability of the token, before the logit filter."""
    entropy: Float[Tensor, "steps"]
    """Entropy in nats, before the logit filter."""
    lse1: Float[Tensor, "steps"]
    """Log-sum-exp of the logits at T = 1."""
    lse2: Float[Tensor, "steps"]
    """Log-sum-exp of half the logits (T = 2)."""
    top_ids: Int[Tensor, "steps k"]
    """Token ids of the k largest logits, before the logit filter."""
    top_logits: Float[Tensor, "steps k"]
    """The k largest logits."""
    hidden: Float[Tensor, "steps width"]
    """Last hidden states after the final norm; their product with the embedding is the logits."""
    filtered_logprob: Float[Tensor, "steps"]
    """Natural-log probability of the token among those that the logit filter allows."""

    @classmethod
    def of_logprobs(
        cls, logprob: Float[Tensor, "steps"], filtered_logprob: Float[Tensor, "steps"], width: int = 0
    ) -> "TokenStats":
        """Statistics where only log-probabilities are recorded; `width` is that of the hidden states."""
        zeros, empty = torch.zeros(len(logprob)), torch.zeros(len(logprob), 0)
        hidden = torch.zeros(len(logprob), width)
        return cls(logprob, zeros, zeros, zeros, empty.long(), empty, hidden, filtered_logprob)


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """Tokens decoded from one window."""

    tokens: tuple[int, ...]
    """Without prompt and end token; with timestamp tokens if they are decoded."""
    ended: bool
    """Whether decoding stopped at the end token, not at the token limit."""
    no_speech_prob: float
    """Probability of `<|nospeech|>` after `<|startoftranscript|>`."""
    token_stats: TokenStats


def token_stats(
    logits: Float[Tensor, "rows vocab"], scratch: Float[Tensor, "rows vocab"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Log-sum-exp at T = 1 and T = 2, and entropy, from one exponential: exp(l / 2) squared is exp(l).

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
    """Probability of `<|nospeech|>` after the last `<|startoftranscript|>` of each prompt."""
    tokens_after_sot = (prompt_tokens == vocabulary.start_of_transcript).flip(1).int().argmax(1)
    sot_index = prompt_tokens.shape[1] - 1 - tokens_after_sot
    sot_hidden = hidden[torch.arange(len(prompt_tokens), device=hidden.device), sot_index]
    return network.decoder.logits(sot_hidden).softmax(-1)[:, vocabulary.no_speech]


class TokenStatsBuffer:
    """Statistics being recorded: one row per slot of the batch, one column per step of its transcript."""

    def __init__(self, num_rows: int, max_steps: int, max_tokens_per_update: int, top_k: int, network: Whisper) -> None:
        """Buffer for `max_steps` tokens per row and `max_tokens_per_update` tokens per call of `record_distribution`.

        `top_k`: logits recorded per token; 0 records log-probabilities only.
        """

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(num_rows, max_steps, *shape, dtype=dtype, device=network.device)

        self.tokens = zeros(dtype=torch.long)
        self.logprob, self.filtered_logprob, self.entropy, self.lse1, self.lse2 = (zeros() for _ in range(5))
        self.top_ids, self.top_logits = zeros(top_k, dtype=torch.long), zeros(top_k)
        self.hidden = zeros(network.dims.width if top_k else 0)
        self.top_k = top_k
        self._scratch = torch.empty(max_tokens_per_update, network.dims.vocab_size, device=network.device)

    def record_distribution(self, rows: Tensor, step: Tensor, logits: Tensor, hidden: Tensor) -> None:
        """Record statistics of unfiltered logits. A step that is recorded again replaces the earlier one."""
        if self.top_k:
            stats = token_stats(logits, self._scratch[: len(rows)])
            self.lse1[rows, step], self.lse2[rows, step], self.entropy[rows, step] = stats
            self.top_logits[rows, step], self.top_ids[rows, step] = logits.topk(self.top_k, dim=-1)
            self.hidden[rows, step] = hidden.float()
        else:
            self.lse1[rows, step] = self._logsumexp(logits)

    def record_choice(self, rows: Tensor, step: Tensor, logits: Tensor, tokens: Tensor) -> None:
        """Record the chosen tokens with their filtered logits; those of allowed tokens are unchanged by the filter."""
        chosen_logit = logits.gather(1, tokens[:, None])[:, 0]
        self.tokens[rows, step] = tokens
        self.logprob[rows, step] = chosen_logit - self.lse1[rows, step]
        self.filtered_logprob[rows, step] = chosen_logit - self._logsumexp(logits)

    def select_rows(self, order: Int[Tensor, "selected"]) -> None:
        """Move row `order[i]` to row i, and drop all other rows."""
        moved_rows = (order != torch.arange(len(order), device=order.device)).nonzero()[:, 0]
        for values in (self.tokens, *(getattr(self, field.name) for field in fields(TokenStats))):
            values[moved_rows] = values[order[moved_rows]]

    def build_result(self, row: int, num_steps: int, ended: bool, no_speech_prob: float) -> DecodingResult:
        """Result of the first `num_steps` steps of a row. The end token has statistics, but is not among the tokens."""
        tokens = tuple(self.tokens[row, : num_steps - ended].tolist())
        stats = (getattr(self, field.name)[row, :num_steps].cpu().clone() for field in fields(TokenStats))
        return DecodingResult(tokens, ended, no_speech_prob, TokenStats(*stats))

    def _logsumexp(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
        max_logit = logits.amax(-1, keepdim=True)
        scratch = torch.sub(logits, max_logit, out=self._scratch[: len(logits)])
        return scratch.exp_().sum(-1).log() + max_logit[:, 0]
