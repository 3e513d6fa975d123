"""The objective: alpha_KL KL(teacher || student) + alpha_PL cross-entropy on the pseudo-label (paper eq. 6).

Computed over chunks of tokens with the gradient of each chunk taken at once, in memory that is kept, so that logits of
more than `CHUNK` tokens never exist. KL is at temperature T and times T^2, in one of two forms:

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
from whisperstill.records.batch import HiddenTargets, TopTargets

CHUNK = 256
"""Tokens whose logits exist at a time."""
LEAST = 1e-30
"""Mass of the bucket where rounding leaves none."""
STEEPEST = 1e4
"""Bound of the slope of a bucket that is nearly empty."""


@dataclass(frozen=True)
class Weights:
    """Weights of the loss' parts."""

    alpha_kl: float = 0.8
    alpha_pl: float = 1.0
    temperature: float = 2.0
    divergence: Divergence = "forward-kl"


@dataclass(frozen=True, slots=True)
class _Scales:
    cross_entropy: float
    kl: float
    temperature: float
    divergence: Divergence


@dataclass(frozen=True, slots=True)
class _Softmax:
    """Row sums of exp(x - largest), and what follows from them."""

    total: Float[Tensor, "rows"]
    largest: Float[Tensor, "rows"]

    @property
    def lse(self) -> Float[Tensor, "rows"]:
        return self.total.log() + self.largest


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
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        temperature = scales.temperature
        wants_hidden, wants_embedding = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if wants_hidden else None
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32) if wants_embedding else None
        sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
        rooms = torch.empty(3, min(CHUNK, len(hidden)), len(embedding), device=hidden.device)
        # Row i of the teacher's targets belongs to the i-th taught token; a row not taught has weight 0.
        place = (taught.long().cumsum(0) - 1).clamp_min(0)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            z, room, grad = rooms[:, : len(hidden[part])]
            _product(hidden[part], embedding, z)
            largest, best = z.max(-1)
            soft = torch.sub(z, largest[:, None], out=room).div_(temperature).exp_()
            student = _Softmax(soft.sum(-1), largest / temperature)

            torch.pow(soft, temperature, out=grad)
            whole = _Softmax(grad.sum(-1), largest)
            target, want, count = target_ids[part, None], scored[part], counts[part]
            sums[0] += ((whole.lse - z.gather(1, target)[:, 0]) * want * count).sum(dtype=torch.float64)
            sums[2] += ((best == target[:, 0]) & want).sum()
            weight = scales.cross_entropy * want * count
            grad.mul_((weight / whole.total)[:, None])
            grad.scatter_add_(1, target, -weight[:, None])

            if teacher is not None and scales.kl and taught[part].any():
                at = place[part]
                # d(T^2 KL)/dz = T^2 / T * d KL / du
                weight = scales.kl * temperature * taught[part] * count
                if isinstance(teacher, TopTargets):
                    kl = _of_top(z, soft, student, teacher, at, scales, weight, grad)
                elif scales.divergence == "forward-kl":
                    kl = _kl_of_hidden(z, soft, student, teacher, at, temperature, weight, grad)
                else:
                    kl = _of_hidden(z, student, teacher, at, scales, weight, grad)
                sums[1] += (kl * taught[part] * count).sum(dtype=torch.float64) * temperature**2
            sloped = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = sloped @ embedding
            if grad_embedding is not None:
                grad_embedding += (sloped.t() @ hidden[part]).float()
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


def _product(hidden: Tensor, embedding: Tensor, room: Tensor) -> Tensor:
    """Float32 logits, in `room`."""
    if hidden.dtype == room.dtype:
        torch.mm(hidden, embedding.t(), out=room)
    else:
        room.copy_(hidden @ embedding.t())
    return room


def _kl_of_hidden(
    z: Float[Tensor, "rows vocab"],
    soft: Float[Tensor, "rows vocab"],
    student: _Softmax,
    teacher: HiddenTargets,
    at: Int[Tensor, "rows"],
    temperature: float,
    weight: Float[Tensor, "rows"],
    grad: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """KL per row; its gradient times `weight` is added to `grad`. `z` and `soft` are used up."""
    grad.addcmul_(soft, (weight / student.total)[:, None])
    theirs = _product(teacher.hidden[at].to(teacher.embedding.dtype), teacher.embedding, soft)
    difference = torch.sub(theirs, z, out=z)
    largest = theirs.amax(-1)
    probability = theirs.sub_(largest[:, None]).div_(temperature).exp_()
    sharp = _Softmax(probability.sum(-1), largest / temperature)
    grad.addcmul_(probability, -(weight / sharp.total)[:, None])
    mean: Tensor = torch.linalg.vecdot(probability, difference) / (temperature * sharp.total)
    return mean + student.lse - sharp.lse


def _of_hidden(
    z: Float[Tensor, "rows vocab"],
    student: _Softmax,
    teacher: HiddenTargets,
    at: Int[Tensor, "rows"],
    scales: _Scales,
    weight: Float[Tensor, "rows"],
    grad: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """The same for any divergence, in more memory."""
    log_q = z / scales.temperature - student.lse[:, None]
    theirs = teacher.hidden[at].to(teacher.embedding.dtype) @ teacher.embedding.t()
    log_p = (theirs.float() / scales.temperature).log_softmax(-1)
    distance, slope = divergence(scales.divergence, log_p, log_q)
    total = slope.sum(-1, keepdim=True)
    grad.addcmul_(slope.sub_(log_q.exp_().mul_(total)), weight[:, None])
    return distance


def _of_top(
    z: Float[Tensor, "rows vocab"],
    soft: Float[Tensor, "rows vocab"],
    student: _Softmax,
    teacher: TopTargets,
    at: Int[Tensor, "rows"],
    scales: _Scales,
    weight: Float[Tensor, "rows"],
    grad: Float[Tensor, "rows vocab"],
) -> Float[Tensor, "rows"]:
    """Divergence per row with one bucket for all outside the k; its gradient times `weight` is added to `grad`."""
    ids = teacher.ids[at]
    log_p = _with_bucket(teacher.logits[at] / scales.temperature - teacher.lse[at, None])
    log_q = _with_bucket(z.gather(1, ids) / scales.temperature - student.lse[:, None])
    distance, slope = divergence(scales.divergence, log_p, log_q)
    total, q = slope.sum(-1), log_q.exp()
    outside = (slope[:, -1] / q[:, -1] - total).clamp(-STEEPEST, STEEPEST)
    grad.addcmul_(soft, (weight * outside / student.total)[:, None])
    grad.scatter_add_(1, ids, weight[:, None] * (slope - q * (total + outside)[:, None])[:, :-1])
    return distance


def _with_bucket(logs: Float[Tensor, "rows k"]) -> Float[Tensor, "rows cells"]:
    """Log-probabilities, and last that of all other tokens together."""
    rest = (1 - logs.exp().sum(-1, keepdim=True)).clamp_min(LEAST)
    return torch.cat((logs, rest.log()), -1)


def objective(
    hidden: Float[Tensor, "rows width"],
    embedding: Float[Tensor, "vocab width"],
    target_ids: Int[Tensor, "rows"],
    scored: Bool[Tensor, "rows"],
    taught: Bool[Tensor, "rows"],
    teacher: TopTargets | HiddenTargets | None,
    weights: Weights,
    total_scored: float,
    total_taught: float,
    counts: Float[Tensor, "rows"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """The loss of these rows as their share of a step of `total_scored` and `total_taught` tokens.

    `counts` says how much each row counts (None: all alike, 1); the totals are then sums of those. Adding the shares of
    all micro-batches gives exactly the loss of the whole batch. Also gives the sums `[cross-entropy, T^2 KL, correct]`.
    With nothing scored the loss is 0, not NaN.
    """
    scales = _Scales(
        weights.alpha_pl / (total_scored or 1.0),
        weights.alpha_kl / (total_taught or 1.0),
        weights.temperature,
        weights.divergence,
    )
    if counts is None:
        counts = torch.ones(len(hidden), device=hidden.device)
    return _Chunked.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, embedding, target_ids, scored, taught, teacher, scales, counts
    )
