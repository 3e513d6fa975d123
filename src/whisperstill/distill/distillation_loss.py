"""The objective: kl_weight KL(teacher || student) + ce_weight cross-entropy on the pseudo-label (paper eq. 6).

Computed over chunks of tokens with the gradient of each chunk taken at once, in memory that is kept, so that logits of
more than `CHUNK_TOKENS` tokens never exist. KL is at temperature T and times T^2, in one of two forms:

* from the teacher's last hidden states: over the whole vocabulary;
* from the stored top-k and log-sum-exp: all tokens outside the k share one bucket. By the data-processing inequality
  this is a lower bound; the gap is exactly `tail mass x KL(teacher's tail || student's tail)`, each renormalised.

KL stands for any divergence of the menu. With u = logits / T, q = softmax(u), and s what the menu gives for each cell,
the gradient is s - q sum(s) inside the k, and q (s_t / q_t - sum(s)) outside, where s_t and q_t belong to the bucket;
for the KL itself that is q - p, and q (1 - p_t / q_t). One exponential of the student's logits serves both losses:
exp(u) to the power of T is exp(logits).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.distill.divergence import Divergence, divergence
from whisperstill.records.batch import HiddenTargets, TopKTargets

CHUNK_TOKENS = 256
"""Tokens whose logits exist at a time."""
MIN_TAIL_PROB = 1e-30
"""Mass of the bucket where rounding leaves none."""
MAX_TAIL_GRADIENT = 1e4
"""Bound of the slope of a bucket that is nearly empty."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss' parts."""

    kl_weight: float = 0.8
    ce_weight: float = 1.0
    temperature: float = 2.0
    divergence: Divergence = "forward-kl"


@dataclass(frozen=True, slots=True)
class _LossScales:
    cross_entropy: float
    kl: float
    temperature: float
    divergence: Divergence


@dataclass(frozen=True, slots=True)
class _Softmax:
    """Row sums of exp(x - largest), and what follows from them."""

    sum_exp: Float[Tensor, "rows"]
    max_logit: Float[Tensor, "rows"]

    @property
    def lse(self) -> Float[Tensor, "rows"]:
        return self.sum_exp.log() + self.max_logit


class _ChunkedLoss(torch.autograd.Function):
    """Loss sums and the gradient of their weighted sum, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        embedding: Tensor,
        target_ids: Tensor,
        ce_mask: Tensor,
        kl_mask: Tensor,
        teacher: TopKTargets | HiddenTargets | None,
        scales: _LossScales,
        token_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        temperature = scales.temperature
        needs_hidden_grad, needs_embedding_grad = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if needs_hidden_grad else None
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32) if needs_embedding_grad else None
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        buffers = torch.empty(3, min(CHUNK_TOKENS, len(hidden)), len(embedding), device=hidden.device)
        # Row i of the teacher's targets belongs to the i-th taught token; a row not taught has weight 0.
        teacher_rows = (kl_mask.long().cumsum(0) - 1).clamp_min(0)
        for start in range(0, len(hidden), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            logits, buffer, grad_logits = buffers[:, : len(hidden[chunk])]
            _compute_logits(hidden[chunk], embedding, logits)
            max_logits, predicted = logits.max(-1)
            exp_logits = torch.sub(logits, max_logits[:, None], out=buffer).div_(temperature).exp_()
            tempered_softmax = _Softmax(exp_logits.sum(-1), max_logits / temperature)

            torch.pow(exp_logits, temperature, out=grad_logits)
            softmax = _Softmax(grad_logits.sum(-1), max_logits)
            targets, chunk_ce_mask, chunk_weights = target_ids[chunk, None], ce_mask[chunk], token_weights[chunk]
            sums[0] += ((softmax.lse - logits.gather(1, targets)[:, 0]) * chunk_ce_mask * chunk_weights).sum(
                dtype=torch.float64
            )
            sums[2] += ((predicted == targets[:, 0]) & chunk_ce_mask).sum()
            grad_weight = scales.cross_entropy * chunk_ce_mask * chunk_weights
            grad_logits.mul_((grad_weight / softmax.sum_exp)[:, None])
            grad_logits.scatter_add_(1, targets, -grad_weight[:, None])

            if teacher is not None and scales.kl and kl_mask[chunk].any():
                rows = teacher_rows[chunk]
                # d(T^2 KL)/dz = T^2 / T * d KL / du
                grad_weight = scales.kl * temperature * kl_mask[chunk] * chunk_weights
                if isinstance(teacher, TopKTargets):
                    kl = _divergence_from_topk(
                        logits, exp_logits, tempered_softmax, teacher, rows, scales, grad_weight, grad_logits
                    )
                elif scales.divergence == "forward-kl":
                    kl = _forward_kl_from_hidden(
                        logits, exp_logits, tempered_softmax, teacher, rows, temperature, grad_weight, grad_logits
                    )
                else:
                    kl = _divergence_from_hidden(
                        logits, tempered_softmax, teacher, rows, scales, grad_weight, grad_logits
                    )
                sums[1] += (kl * kl_mask[chunk] * chunk_weights).sum(dtype=torch.float64) * temperature**2
            grad_logits_cast = grad_logits.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[chunk] = grad_logits_cast @ embedding
            if grad_embedding is not None:
                grad_embedding += (grad_logits_cast.t() @ hidden[chunk]).float()
        ctx.save_for_backward(grad_hidden, grad_embedding)
        total_loss = scales.cross_entropy * sums[0] + scales.kl * sums[1]
        ctx.mark_non_differentiable(sums)
        return total_loss.float(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> Any:
        grad_hidden, grad_embedding = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad_total,
            None if grad_embedding is None else grad_embedding * grad_total,
            *(None,) * 6,
        )


def _compute_logits(hidden: Tensor, embedding: Tensor, buffer: Tensor) -> Tensor:
    """Float32 logits, in `buffer`."""
    if hidden.dtype == buffer.dtype:
        torch.mm(hidden, embedding.t(), out=buffer)
    else:
        buffer.copy_(hidden @ embedding.t())
    return buffer


def _forward_kl_from_hidden(
    logits: Float[Tensor, "rows vocab"],
    exp_logits: Float[Tensor, "rows vocab"],
    tempered_softmax: _Softmax,
    teacher: HiddenTargets,
    rows: Int[Tensor, "rows"],
    temperature: float,
    grad_weight: Float[Tensor, "rows"],
    grad_logits: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """KL per row; its gradient times `grad_weight` is added to `grad_logits`. `logits` and `exp_logits` are used up."""
    grad_logits.addcmul_(exp_logits, (grad_weight / tempered_softmax.sum_exp)[:, None])
    teacher_logits = _compute_logits(teacher.hidden[rows].to(teacher.embedding.dtype), teacher.embedding, exp_logits)
    difference = torch.sub(teacher_logits, logits, out=logits)
    max_logits = teacher_logits.amax(-1)
    teacher_exp_logits = teacher_logits.sub_(max_logits[:, None]).div_(temperature).exp_()
    teacher_softmax = _Softmax(teacher_exp_logits.sum(-1), max_logits / temperature)
    grad_logits.addcmul_(teacher_exp_logits, -(grad_weight / teacher_softmax.sum_exp)[:, None])
    mean_difference: Tensor = torch.linalg.vecdot(teacher_exp_logits, difference) / (
        temperature * teacher_softmax.sum_exp
    )
    return mean_difference + tempered_softmax.lse - teacher_softmax.lse


def _divergence_from_hidden(
    logits: Float[Tensor, "rows vocab"],
    tempered_softmax: _Softmax,
    teacher: HiddenTargets,
    rows: Int[Tensor, "rows"],
    scales: _LossScales,
    grad_weight: Float[Tensor, "rows"],
    grad_logits: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """The same for any divergence, in more memory."""
    log_q = logits / scales.temperature - tempered_softmax.lse[:, None]
    teacher_logits = teacher.hidden[rows].to(teacher.embedding.dtype) @ teacher.embedding.t()
    log_p = (teacher_logits.float() / scales.temperature).log_softmax(-1)
    divergences, q_grad = divergence(scales.divergence, log_p, log_q)
    q_grad_sum = q_grad.sum(-1, keepdim=True)
    grad_logits.addcmul_(q_grad.sub_(log_q.exp_().mul_(q_grad_sum)), grad_weight[:, None])
    return divergences


def _divergence_from_topk(
    logits: Float[Tensor, "rows vocab"],
    exp_logits: Float[Tensor, "rows vocab"],
    tempered_softmax: _Softmax,
    teacher: TopKTargets,
    rows: Int[Tensor, "rows"],
    scales: _LossScales,
    grad_weight: Float[Tensor, "rows"],
    grad_logits: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """Divergence per row with one bucket for all outside the k.

    Its gradient times `grad_weight` is added to `grad_logits`.
    """
    ids = teacher.ids[rows]
    log_p = _append_tail(teacher.logits[rows] / scales.temperature - teacher.lse[rows, None])
    log_q = _append_tail(logits.gather(1, ids) / scales.temperature - tempered_softmax.lse[:, None])
    divergences, q_grad = divergence(scales.divergence, log_p, log_q)
    q_grad_sum, q = q_grad.sum(-1), log_q.exp()
    tail_grad = (q_grad[:, -1] / q[:, -1] - q_grad_sum).clamp(-MAX_TAIL_GRADIENT, MAX_TAIL_GRADIENT)
    grad_logits.addcmul_(exp_logits, (grad_weight * tail_grad / tempered_softmax.sum_exp)[:, None])
    grad_logits.scatter_add_(1, ids, grad_weight[:, None] * (q_grad - q * (q_grad_sum + tail_grad)[:, None])[:, :-1])
    return divergences


def _append_tail(log_probs: Float[Tensor, "rows k"]) -> Float[Tensor, "rows cells"]:
    """Log-probabilities, and last that of all other tokens together."""
    tail_prob = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp_min(MIN_TAIL_PROB)
    return torch.cat((log_probs, tail_prob.log()), -1)


def distillation_loss(
    hidden: Float[Tensor, "rows width"],
    embedding: Float[Tensor, "vocab width"],
    target_ids: Int[Tensor, "rows"],
    ce_mask: Bool[Tensor, "rows"],
    kl_mask: Bool[Tensor, "rows"],
    teacher: TopKTargets | HiddenTargets | None,
    loss_config: LossConfig,
    total_ce_tokens: float,
    total_kl_tokens: float,
    token_weights: Float[Tensor, "rows"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """The loss of these rows as their share of a step of `total_ce_tokens` and `total_kl_tokens` tokens.

    `token_weights` says how much each row counts (None: all alike, 1); the totals are then sums of those. Adding the
    shares of all micro-batches gives exactly the loss of the whole batch. Also gives the sums
    `[cross-entropy, T^2 KL, correct]`. With nothing scored the loss is 0, not NaN.
    """
    scales = _LossScales(
        loss_config.ce_weight / (total_ce_tokens or 1.0),
        loss_config.kl_weight / (total_kl_tokens or 1.0),
        loss_config.temperature,
        loss_config.divergence,
    )
    if token_weights is None:
        token_weights = torch.ones(len(hidden), device=hidden.device)
    return _ChunkedLoss.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, embedding, target_ids, ce_mask, kl_mask, teacher, scales, token_weights
    )
