"""Distillation loss: kl_weight KL(teacher || student) + ce_weight cross-entropy on the pseudo-labels (paper, eq. 6).

Computed over chunks of `CHUNK_TOKENS` tokens, the gradient of each chunk with it, so that the logits of all tokens
never exist at once. The KL is taken at temperature T and multiplied by T^2, in one of two forms:

* from the teacher's last hidden states: over the whole vocabulary;
* from the stored top-k and log-sum-exp: all tokens outside the top-k share one tail bucket. By the data-processing
  inequality this is a lower bound; the gap is exactly `tail mass x KL(teacher's tail || student's tail)`, with both
  tails renormalized.

The KL may be replaced by another divergence (see `divergence`). With u = logits / T, q = softmax(u) and s the product
of q and the derivative of the divergence with respect to q, the gradient with respect to u is

    s - q sum(s)             for a token of the top-k, or of the vocabulary in the first form
    q (s_t / q_t - sum(s))   for a token of the tail, with s_t and q_t those of the tail bucket

which is q - p and q (1 - p_t / q_t) for the KL. One exponential of the student's logits serves both losses, since
exp(u)^T = exp(logits).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.distill.divergence import divergence
from whisperstill.distill.settings import LossConfig
from whisperstill.records.batch import HiddenTargets, TopKTargets

CHUNK_TOKENS = 256
"""Tokens whose logits exist at the same time."""
MIN_TAIL_PROB = 1e-30
"""Lower bound of the tail mass, where rounding leaves none."""
MAX_TAIL_GRADIENT = 1e4
"""Gradient clamp of the tail bucket when its mass is near zero."""


@dataclass(frozen=True, slots=True)
class LossTargets:
    """Targets of the tokens in the loss, one row each."""

    target_ids: Int[Tensor, "rows"]
    ce_mask: Bool[Tensor, "rows"]
    """Rows in the cross-entropy."""
    kl_mask: Bool[Tensor, "rows"]
    """Rows in the KL loss."""
    teacher: TopKTargets | HiddenTargets | None
    """The teacher's distribution at the rows of `kl_mask`; None: no KL loss."""
    token_weights: Float[Tensor, "rows"]


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """Sums of the token weights over all micro-batches and processes of a step."""

    ce: float
    kl: float


@dataclass(frozen=True, slots=True)
class _LossScales:
    """Factors of the loss sums."""

    ce: float
    kl: float
    temperature: float
    divergence: str


@dataclass(frozen=True, slots=True)
class _Softmax:
    """Row sums of exp(x - maximum), from which the log-sum-exp follows."""

    sum_exp: Float[Tensor, "rows"]
    max_logit: Float[Tensor, "rows"]

    @property
    def lse(self) -> Float[Tensor, "rows"]:
        return self.sum_exp.log() + self.max_logit


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Student logits of some rows and the buffers of their loss."""

    logits: Float[Tensor, "rows vocab"]
    exp_logits: Float[Tensor, "rows vocab"]
    """exp((logits - maximum) / T)."""
    tempered_softmax: _Softmax
    """Of the logits divided by T."""
    grad_logits: Float[Tensor, "rows vocab"]
    """Gradient of the loss with respect to the logits; each loss adds its own."""


class _ChunkedLoss(torch.autograd.Function):
    """Sums of the losses and the gradient of their weighted sum, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: LossTargets, scales: _LossScales
    ) -> tuple[Tensor, Tensor]:
        needs_hidden_grad, needs_embedding_grad = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if needs_hidden_grad else None
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32) if needs_embedding_grad else None
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        buffers = torch.empty(3, min(CHUNK_TOKENS, len(hidden)), len(embedding), device=hidden.device)
        # Row i of the teacher's targets belongs to the i-th row of `kl_mask`; rows outside have weight 0.
        teacher_rows = (targets.kl_mask.long().cumsum(0) - 1).clamp_min(0)
        for start in range(0, len(hidden), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            # 1. Logits, and exp(logits / T) for both losses.
            logits, exp_buffer, grad_logits = buffers[:, : len(hidden[rows])]
            _compute_logits(hidden[rows], embedding, logits)
            max_logits, predicted = logits.max(-1)
            exp_logits = torch.sub(logits, max_logits[:, None], out=exp_buffer).div_(scales.temperature).exp_()
            tempered_softmax = _Softmax(exp_logits.sum(-1), max_logits / scales.temperature)
            chunk = _Chunk(logits, exp_logits, tempered_softmax, grad_logits)
            # 2. Cross-entropy, which writes the gradient of the logits.
            sums[0] += _add_cross_entropy(chunk, max_logits, targets, rows, scales)
            sums[2] += ((predicted == targets.target_ids[rows]) & targets.ce_mask[rows]).sum()
            # 3. Divergence from the teacher, which adds to it and overwrites logits and exponentials.
            if targets.teacher is not None and scales.kl and targets.kl_mask[rows].any():
                row_weights = targets.kl_mask[rows], targets.token_weights[rows]
                # d(T^2 D)/d(logits) = T^2 / T * dD/du
                grad_weight = scales.kl * scales.temperature * row_weights[0] * row_weights[1]
                if isinstance(targets.teacher, TopKTargets):
                    divergences = _add_topk_divergence(chunk, targets.teacher, teacher_rows[rows], scales, grad_weight)
                else:
                    divergences = _add_hidden_divergence(
                        chunk, targets.teacher, teacher_rows[rows], scales, grad_weight
                    )
                weighted_sum = (divergences * row_weights[0] * row_weights[1]).sum(dtype=torch.float64)
                sums[1] += weighted_sum * scales.temperature**2
            # 4. Gradients of hidden states and embedding.
            grad_logits_cast = grad_logits.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad_logits_cast @ embedding
            if grad_embedding is not None:
                grad_embedding += (grad_logits_cast.t() @ hidden[rows]).float()
        ctx.save_for_backward(grad_hidden, grad_embedding)
        ctx.mark_non_differentiable(sums)
        return (scales.ce * sums[0] + scales.kl * sums[1]).float(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> Any:
        grad_hidden, grad_embedding = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad_total,
            None if grad_embedding is None else grad_embedding * grad_total,
            None,
            None,
        )


def _compute_logits(hidden: Tensor, embedding: Tensor, buffer: Tensor) -> Tensor:
    """Float32 logits, written into `buffer`."""
    if hidden.dtype == buffer.dtype:
        torch.mm(hidden, embedding.t(), out=buffer)
    else:
        buffer.copy_(hidden @ embedding.t())
    return buffer


def _add_cross_entropy(
    chunk: _Chunk, max_logits: Float[Tensor, "rows"], targets: LossTargets, rows: slice, scales: _LossScales
) -> Float[Tensor, ""]:
    """Weighted sum of the cross-entropy; its gradient overwrites `chunk.grad_logits`."""
    grad_logits = chunk.grad_logits
    target_ids = targets.target_ids[rows, None]
    ce_mask, token_weights = targets.ce_mask[rows], targets.token_weights[rows]
    torch.pow(chunk.exp_logits, scales.temperature, out=grad_logits)
    softmax = _Softmax(grad_logits.sum(-1), max_logits)
    target_logits = chunk.logits.gather(1, target_ids)[:, 0]
    grad_weight = scales.ce * ce_mask * token_weights
    grad_logits.mul_((grad_weight / softmax.sum_exp)[:, None])
    grad_logits.scatter_add_(1, target_ids, -grad_weight[:, None])
    return ((softmax.lse - target_logits) * ce_mask * token_weights).sum(dtype=torch.float64)


def _add_hidden_forward_kl(
    chunk: _Chunk,
    teacher: HiddenTargets,
    teacher_rows: Int[Tensor, "rows"],
    temperature: float,
    grad_weight: Float[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """KL over the whole vocabulary. Overwrites `chunk.logits` and `chunk.exp_logits`."""
    chunk.grad_logits.addcmul_(chunk.exp_logits, (grad_weight / chunk.tempered_softmax.sum_exp)[:, None])
    teacher_hidden = teacher.hidden[teacher_rows].to(teacher.embedding.dtype)
    teacher_logits = _compute_logits(teacher_hidden, teacher.embedding, chunk.exp_logits)
    difference = torch.sub(teacher_logits, chunk.logits, out=chunk.logits)
    max_logits = teacher_logits.amax(-1)
    teacher_exp_logits = teacher_logits.sub_(max_logits[:, None]).div_(temperature).exp_()
    teacher_softmax = _Softmax(teacher_exp_logits.sum(-1), max_logits / temperature)
    chunk.grad_logits.addcmul_(teacher_exp_logits, -(grad_weight / teacher_softmax.sum_exp)[:, None])
    mean_difference: Tensor = torch.linalg.vecdot(teacher_exp_logits, difference) / (
        temperature * teacher_softmax.sum_exp
    )
    return mean_difference + chunk.tempered_softmax.lse - teacher_softmax.lse


def _add_hidden_divergence(
    chunk: _Chunk,
    teacher: HiddenTargets,
    teacher_rows: Int[Tensor, "rows"],
    scales: _LossScales,
    grad_weight: Float[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """Any divergence over the whole vocabulary, in more memory than the KL."""
    if scales.divergence == "forward-kl":
        return _add_hidden_forward_kl(chunk, teacher, teacher_rows, scales.temperature, grad_weight)
    log_q = chunk.logits / scales.temperature - chunk.tempered_softmax.lse[:, None]
    teacher_logits = teacher.hidden[teacher_rows].to(teacher.embedding.dtype) @ teacher.embedding.t()
    log_p = (teacher_logits.float() / scales.temperature).log_softmax(-1)
    divergences, q_grad = divergence(scales.divergence, log_p, log_q)
    q_grad_sum = q_grad.sum(-1, keepdim=True)
    chunk.grad_logits.addcmul_(q_grad.sub_(log_q.exp_().mul_(q_grad_sum)), grad_weight[:, None])
    return divergences


def _add_topk_divergence(
    chunk: _Chunk,
    teacher: TopKTargets,
    teacher_rows: Int[Tensor, "rows"],
    scales: _LossScales,
    grad_weight: Float[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """Any divergence over the top-k and the tail bucket."""
    # 1. Log-probabilities of k tokens and the tail, of teacher and student.
    ids = teacher.ids[teacher_rows]
    log_p = _append_tail(teacher.logits[teacher_rows] / scales.temperature - teacher.lse[teacher_rows, None])
    log_q = _append_tail(chunk.logits.gather(1, ids) / scales.temperature - chunk.tempered_softmax.lse[:, None])
    divergences, q_grad = divergence(scales.divergence, log_p, log_q)
    # 2. Gradient of a tail token: q (s_t / q_t - sum(s)). It is added to all tokens of the vocabulary at once.
    q_grad_sum, q = q_grad.sum(-1), log_q.exp()
    tail_grad = (q_grad[:, -1] / q[:, -1] - q_grad_sum).clamp(-MAX_TAIL_GRADIENT, MAX_TAIL_GRADIENT)
    tail_weight = (grad_weight * tail_grad / chunk.tempered_softmax.sum_exp)[:, None]
    chunk.grad_logits.addcmul_(chunk.exp_logits, tail_weight)
    # 3. Gradient of the top-k: s - q sum(s), minus what step 2 added there.
    topk_grad = (q_grad - q * (q_grad_sum + tail_grad)[:, None])[:, :-1]
    chunk.grad_logits.scatter_add_(1, ids, grad_weight[:, None] * topk_grad)
    return divergences


def _append_tail(log_probs: Float[Tensor, "rows k"]) -> Float[Tensor, "rows cells"]:
    """Log-probabilities of the k tokens and, last, of all other tokens together."""
    tail_prob = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp_min(MIN_TAIL_PROB)
    return torch.cat((log_probs, tail_prob.log()), -1)


def distillation_loss(
    hidden: Float[Tensor, "rows width"],
    embedding: Float[Tensor, "vocab width"],
    targets: LossTargets,
    loss_config: LossConfig,
    totals: TokenTotals,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """The part of a step's loss that comes from these rows, and the sums `[cross-entropy, T^2 KL, correct tokens]`.

    The weighted sums are divided by `totals`, the token counts of the whole step, so the parts of all micro-batches add
    up to the loss of the step. A loss without tokens is 0, not NaN. Paper, eq. 6.
    """
    scales = _LossScales(
        loss_config.ce_weight / (totals.ce or 1.0),
        loss_config.kl_weight / (totals.kl or 1.0),
        loss_config.temperature,
        loss_config.divergence,
    )
    return _ChunkedLoss.apply(hidden, embedding, targets, scales)  # type: ignore[no-any-return, no-untyped-call]
