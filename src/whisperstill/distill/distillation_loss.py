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

from whisperstill.distill.batch import HiddenTargets, TopKTargets
from whisperstill.distill.divergence import divergence
from whisperstill.distill.settings import LossConfig

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


class _Chunk:
    """Student logits of some rows, and the gradient of the loss with respect to them; each loss adds its own."""

    def __init__(
        self,
        hidden: Float[Tensor, "rows width"],
        embedding: Float[Tensor, "vocab width"],
        temperature: float,
        buffers: Float[Tensor, "3 rows vocab"],
    ) -> None:
        self._temperature = temperature
        self._logits, exp_buffer, self.grad_logits = buffers
        _compute_logits(hidden, embedding, self._logits)
        self._max_logits, self.predicted = self._logits.max(-1)
        # exp((logits - maximum) / T) for both losses, and the log-sum-exp of the logits divided by T.
        self._exp_logits = torch.sub(self._logits, self._max_logits[:, None], out=exp_buffer).div_(temperature).exp_()
        self._sum_exp = self._exp_logits.sum(-1)
        self._lse = self._sum_exp.log() + self._max_logits / temperature

    def add_cross_entropy(
        self, target_ids: Int[Tensor, "rows"], weights: Float[Tensor, "rows"], scale: float
    ) -> Float[Tensor, ""]:
        """Weighted sum of the cross-entropy; its gradient, times `scale`, overwrites `grad_logits`."""
        torch.pow(self._exp_logits, self._temperature, out=self.grad_logits)
        sum_exp = self.grad_logits.sum(-1)
        target_logits = self._logits.gather(1, target_ids[:, None])[:, 0]
        grad_weights = scale * weights
        self.grad_logits.mul_((grad_weights / sum_exp)[:, None])
        self.grad_logits.scatter_add_(1, target_ids[:, None], -grad_weights[:, None])
        cross_entropy: Tensor = sum_exp.log() + self._max_logits - target_logits
        return (cross_entropy * weights).sum(dtype=torch.float64)

    def add_divergence(
        self,
        name: str,
        teacher: TopKTargets | HiddenTargets,
        teacher_rows: Int[Tensor, "rows"],
        grad_weights: Float[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        """Divergence of each row from its row of `teacher`. May overwrite logits and exponentials."""
        if isinstance(teacher, TopKTargets):
            return self._add_topk_divergence(name, teacher, teacher_rows, grad_weights)
        teacher_hidden = teacher.hidden[teacher_rows].to(teacher.embedding.dtype)
        if name == "forward-kl":
            return self._add_forward_kl(teacher_hidden, teacher.embedding, grad_weights)
        # Any divergence over the whole vocabulary, in more memory than the KL.
        log_q = self._logits / self._temperature - self._lse[:, None]
        log_p = ((teacher_hidden @ teacher.embedding.t()).float() / self._temperature).log_softmax(-1)
        divergences, q_grad = divergence(name, log_p, log_q)
        q_grad_sum = q_grad.sum(-1, keepdim=True)
        self.grad_logits.addcmul_(q_grad.sub_(log_q.exp_().mul_(q_grad_sum)), grad_weights[:, None])
        return divergences

    def _add_forward_kl(
        self,
        teacher_hidden: Float[Tensor, "rows width"],
        embedding: Float[Tensor, "vocab width"],
        grad_weights: Float[Tensor, "rows"],
    ) -> Float[Tensor, "rows"]:
        """KL over the whole vocabulary, without another buffer."""
        self.grad_logits.addcmul_(self._exp_logits, (grad_weights / self._sum_exp)[:, None])
        teacher_logits = _compute_logits(teacher_hidden, embedding, self._exp_logits)
        difference = torch.sub(teacher_logits, self._logits, out=self._logits)
        max_logits = teacher_logits.amax(-1)
        teacher_exp_logits = teacher_logits.sub_(max_logits[:, None]).div_(self._temperature).exp_()
        sum_exp = teacher_exp_logits.sum(-1)
        self.grad_logits.addcmul_(teacher_exp_logits, -(grad_weights / sum_exp)[:, None])
        mean_difference = torch.linalg.vecdot(teacher_exp_logits, difference) / (self._temperature * sum_exp)
        kl: Tensor = mean_difference + self._lse - (sum_exp.log() + max_logits / self._temperature)
        return kl

    def _add_topk_divergence(
        self, name: str, teacher: TopKTargets, teacher_rows: Int[Tensor, "rows"], grad_weights: Float[Tensor, "rows"]
    ) -> Float[Tensor, "rows"]:
        """Any divergence over the top-k and the tail bucket."""
        # 1. Log-probabilities of k tokens and the tail, of teacher and student.
        ids = teacher.ids[teacher_rows]
        log_p = _append_tail(teacher.logits[teacher_rows] / self._temperature - teacher.lse[teacher_rows, None])
        log_q = _append_tail(self._logits.gather(1, ids) / self._temperature - self._lse[:, None])
        divergences, q_grad = divergence(name, log_p, log_q)
        # 2. Gradient of a tail token: q (s_t / q_t - sum(s)). It is added to all tokens of the vocabulary at once.
        q_grad_sum, q = q_grad.sum(-1), log_q.exp()
        tail_grad = (q_grad[:, -1] / q[:, -1] - q_grad_sum).clamp(-MAX_TAIL_GRADIENT, MAX_TAIL_GRADIENT)
        self.grad_logits.addcmul_(self._exp_logits, (grad_weights * tail_grad / self._sum_exp)[:, None])
        # 3. Gradient of the top-k: s - q sum(s), minus what step 2 added there.
        topk_grad = (q_grad - q * (q_grad_sum + tail_grad)[:, None])[:, :-1]
        self.grad_logits.scatter_add_(1, ids, grad_weights[:, None] * topk_grad)
        return divergences


def _compute_logits(hidden: Tensor, embedding: Tensor, buffer: Tensor) -> Tensor:
    """Float32 logits, written into `buffer`."""
    if hidden.dtype == buffer.dtype:
        torch.mm(hidden, embedding.t(), out=buffer)
    else:
        buffer.copy_(hidden @ embedding.t())
    return buffer


def _append_tail(log_probs: Float[Tensor, "rows k"]) -> Float[Tensor, "rows cells"]:
    """Log-probabilities of the k tokens and, last, of all other tokens together."""
    tail_prob = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp_min(MIN_TAIL_PROB)
    return torch.cat((log_probs, tail_prob.log()), -1)


class _ChunkedLoss(torch.autograd.Function):
    """Sums of the losses and the gradient of their weighted sum, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: LossTargets, config: LossConfig, totals: TokenTotals
    ) -> tuple[Tensor, Tensor]:
        needs_hidden_grad, needs_embedding_grad = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if needs_hidden_grad else None
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32) if needs_embedding_grad else None
        ce_scale, kl_scale = config.ce_weight / (totals.ce or 1.0), config.kl_weight / (totals.kl or 1.0)
        ce_weights, kl_weights = targets.ce_mask * targets.token_weights, targets.kl_mask * targets.token_weights
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        buffers = torch.empty(3, min(CHUNK_TOKENS, len(hidden)), len(embedding), device=hidden.device)
        # Row i of the teacher's targets belongs to the i-th row of `kl_mask`; rows outside have weight 0.
        teacher_rows = (targets.kl_mask.long().cumsum(0) - 1).clamp_min(0)
        for start in range(0, len(hidden), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            chunk = _Chunk(hidden[rows], embedding, config.temperature, buffers[:, : len(hidden[rows])])
            # 1. Cross-entropy.
            sums[0] += chunk.add_cross_entropy(targets.target_ids[rows], ce_weights[rows], ce_scale)
            sums[2] += ((chunk.predicted == targets.target_ids[rows]) & targets.ce_mask[rows]).sum()
            # 2. Divergence from the teacher. d(T^2 D)/d(logits) = T^2 / T * dD/du
            if targets.teacher is not None and kl_scale and targets.kl_mask[rows].any():
                grad_weights = kl_scale * config.temperature * kl_weights[rows]
                divergences = chunk.add_divergence(config.divergence, targets.teacher, teacher_rows[rows], grad_weights)
                sums[1] += (divergences * kl_weights[rows]).sum(dtype=torch.float64) * config.temperature**2
            # 3. Gradients of hidden states and embedding.
            grad_logits = chunk.grad_logits.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad_logits @ embedding
            if grad_embedding is not None:
                grad_embedding += (grad_logits.t() @ hidden[rows]).float()
        ctx.save_for_backward(grad_hidden, grad_embedding)
        ctx.mark_non_differentiable(sums)
        return (ce_scale * sums[0] + kl_scale * sums[1]).float(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> Any:
        gradients = [None if gradient is None else gradient * grad_total for gradient in ctx.saved_tensors]
        return (*gradients, None, None, None)


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
    return _ChunkedLoss.apply(hidden, embedding, targets, loss_config, totals)  # type: ignore[no-any-return, no-untyped-call]
