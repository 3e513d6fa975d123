"""The objective: alpha_KL KL(teacher || student) + alpha_PL cross-entropy on the pseudo-label (paper eq. 6).

Computed over chunks of tokens with the gradient of each chunk taken at once, so that logits of more than `CHUNK`
tokens never exist. KL is at temperature T and times T^2, in one of two forms:

* from the teacher's last hidden states: over the whole vocabulary;
* from the stored top-k and log-sum-exp: all tokens outside the k share one bucket. By the data-processing inequality
  this is a lower bound; the gap is exactly `tail mass x KL(teacher's tail || student's tail)`, each renormalised.

With u = logits / T and q = softmax(u), the gradient of the bucketed KL is q - p inside the k, and q (1 - p_t / q_t)
outside, where p_t and q_t are the tail masses of teacher and student.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisperstill.records.batch import HiddenTargets, TopTargets

CHUNK = 256
"""Tokens whose logits exist at a time."""


@dataclass(frozen=True)
class Weights:
    """Weights of the loss' parts."""

    alpha_kl: float = 0.8
    alpha_pl: float = 1.0
    temperature: float = 2.0


@dataclass(frozen=True, slots=True)
class _Scales:
    cross_entropy: float
    kl: float


class _Chunked(torch.autograd.Function):
    """Loss sums and the gradient of their weighted sum, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        embedding: Tensor,
        target_ids: Tensor,
        scored: Tensor,
        taught: Tensor,
        teacher: TopTargets | HiddenTargets | None,
        scales: _Scales,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_embedding = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if wants_hidden else None
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32) if wants_embedding else None
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        # Row i of the teacher's targets belongs to the i-th taught token.
        place = taught.long().cumsum(0) - 1
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            z = (hidden[part] @ embedding.t()).float()
            want = scored[part]
            lse = z.logsumexp(-1)
            target = z.gather(1, target_ids[part, None])[:, 0]
            sums[0] += ((lse - target) * want).sum(dtype=torch.float64)
            sums[2] += ((z.argmax(-1) == target_ids[part]) & want).sum()
            grad = torch.zeros_like(z)
            if scales.cross_entropy and want.any():
                grad += (z - lse[:, None]).exp_()
                grad.scatter_add_(1, target_ids[part, None], -torch.ones_like(target)[:, None])
                grad *= (scales.cross_entropy * want)[:, None]
            rows = taught[part].nonzero()[:, 0]
            if teacher is not None and scales.kl and len(rows):
                chosen = z if len(rows) == len(z) else z[rows]
                at = place[part][rows]
                kl, kl_grad = _kl(chosen / temperature, teacher, at, temperature)
                sums[1] += kl.sum(dtype=torch.float64) * temperature**2
                # d(T^2 KL)/dz = T^2 / T * d KL / du
                grad.index_add_(0, rows, kl_grad, alpha=scales.kl * temperature)
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad @ embedding
            if grad_embedding is not None:
                grad_embedding += (grad.t() @ hidden[part]).float()
        ctx.save_for_backward(grad_hidden, grad_embedding)
        total = scales.cross_entropy * sums[0] + scales.kl * sums[1]
        ctx.mark_non_differentiable(sums)
        return total.float(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> Any:
        grad_hidden, grad_embedding = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad_total,
            None if grad_embedding is None else grad_embedding * grad_total,
            *(None,) * 6,
        )


def _kl(
    u: Float[Tensor, "rows vocab"], teacher: TopTargets | HiddenTargets, at: Int[Tensor, "rows"], temperature: float
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows vocab"]]:
    """KL per row and its gradient with respect to u; u is used up."""
    log_q = u - u.logsumexp(-1, keepdim=True)
    if isinstance(teacher, HiddenTargets):
        teacher_logits = (teacher.hidden[at].to(teacher.embedding.dtype) @ teacher.embedding.t()).float()
        log_p = (teacher_logits / temperature).log_softmax(-1)
        p = log_p.exp()
        kl = torch.where(p > 0, p * (log_p - log_q), 0).sum(-1)
        return kl, log_q.exp_() - p
    ids = teacher.ids[at]
    log_p = teacher.logits[at] / temperature - teacher.lse[at, None]
    p = log_p.exp()
    top_q = log_q.gather(1, ids)
    tail_p = (1 - p.sum(-1)).clamp_min(0)
    tail_q = (1 - top_q.exp().sum(-1)).clamp_min(torch.finfo(torch.float32).tiny)
    tail = torch.where(tail_p > 0, tail_p * (tail_p.clamp_min(1e-30).log() - tail_q.log()), 0)
    kl = (p * (log_p - top_q)).sum(-1) + tail
    grad = log_q.exp_()
    inside = grad.gather(1, ids) - p
    grad *= (1 - tail_p / tail_q).clamp(-1e4, 1)[:, None]
    grad.scatter_(1, ids, inside)
    return kl, grad


def objective(
    hidden: Float[Tensor, "rows width"],
    embedding: Float[Tensor, "vocab width"],
    target_ids: Int[Tensor, "rows"],
    scored: Bool[Tensor, "rows"],
    taught: Bool[Tensor, "rows"],
    teacher: TopTargets | HiddenTargets | None,
    weights: Weights,
    total_scored: int,
    total_taught: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """The loss of these rows as their share of a step of `total_scored` and `total_taught` tokens.

    Adding the shares of all micro-batches gives exactly the loss of the whole batch. Also gives the sums
    `[cross-entropy, T^2 KL, correct]`. With nothing scored the loss is 0, not NaN.
    """
    scales = _Scales(weights.alpha_pl / max(1, total_scored), weights.alpha_kl / max(1, total_taught))
    return _Chunked.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, embedding, target_ids, scored, taught, teacher, scales, weights.temperature
    )
