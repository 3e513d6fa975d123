"""How far the student's distribution is from the teacher's: the menu.

With p the teacher's and q the student's probabilities, over the vocabulary or over the k stored tokens and one bucket
for all others:

| name | D | what it is known for |
| --- | --- | --- |
| `forward-kl` | sum p log(p / q) | the paper's (eq. 6): the student covers all that the teacher may say |
| `reverse-kl` | sum q log(q / p) | the student keeps to what the teacher is sure of (MiniLLM, arXiv 2306.08543) |
| `jsd` | (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2 | bounded, symmetric (GKD, arXiv 2306.13649) |
| `tv` | sum abs(p - q) / 2 | the share of a draft's tokens that is refused (DistillSpec, arXiv 2310.08461) |
| `skewed-kl` | KL(p, a p + (1 - a) q) with a = 0.1 | forward, with bounded gradients (DistiLLM, arXiv 2402.03898) |

Every D is a sum over cells. Its gradient with respect to logits u, with q = softmax(u), is `s - q sum(s)`, where s is q
times the derivative of D with respect to q: that product is what each of them gives, and it is finite where q is 0.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Divergence = Literal["forward-kl", "reverse-kl", "jsd", "tv", "skewed-kl"]
SKEW_TEACHER_WEIGHT = 0.1
"""Share of the teacher in what the skewed divergence compares it with."""

CategoryTensor = Float[Tensor, "rows cells"]


def divergence(
    name: Divergence, log_p: CategoryTensor, log_q: CategoryTensor
) -> tuple[Float[Tensor, "rows"], CategoryTensor]:
    """D of each row, and q times its derivative with respect to q, from natural-log probabilities."""
    return _DIVERGENCES[name](log_p, log_q, log_p.exp(), log_q.exp())


def _forward_kl(
    log_p: CategoryTensor, log_q: CategoryTensor, p: CategoryTensor, q: CategoryTensor
) -> tuple[Tensor, Tensor]:
    return (p * (log_p - log_q)).sum(-1), -p


def _reverse_kl(
    log_p: CategoryTensor, log_q: CategoryTensor, p: CategoryTensor, q: CategoryTensor
) -> tuple[Tensor, Tensor]:
    terms = q * (log_q - log_p)
    return terms.sum(-1), terms + q


def _jsd(log_p: CategoryTensor, log_q: CategoryTensor, p: CategoryTensor, q: CategoryTensor) -> tuple[Tensor, Tensor]:
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0))
    student_terms = q * (log_q - log_m) / 2
    return (p * (log_p - log_m) / 2 + student_terms).sum(-1), student_terms


def _total_variation(
    log_p: CategoryTensor, log_q: CategoryTensor, p: CategoryTensor, q: CategoryTensor
) -> tuple[Tensor, Tensor]:
    difference = q - p
    return difference.abs().sum(-1) / 2, q * difference.sign() / 2


def _skewed_kl(
    log_p: CategoryTensor, log_q: CategoryTensor, p: CategoryTensor, q: CategoryTensor
) -> tuple[Tensor, Tensor]:
    mixture = SKEW_TEACHER_WEIGHT * p + (1 - SKEW_TEACHER_WEIGHT) * q
    terms = p * (log_p - mixture.clamp_min(torch.finfo(mixture.dtype).tiny).log())
    return terms.sum(-1), -(1 - SKEW_TEACHER_WEIGHT) * q * p / mixture.clamp_min(torch.finfo(mixture.dtype).tiny)


_DIVERGENCES: dict[
    Divergence, Callable[[CategoryTensor, CategoryTensor, CategoryTensor, CategoryTensor], tuple[Tensor, Tensor]]
] = {
    "forward-kl": _forward_kl,
    "reverse-kl": _reverse_kl,
    "jsd": _jsd,
    "tv": _total_variation,
    "skewed-kl": _skewed_kl,
}
assert set(_DIVERGENCES) == set(get_args(Divergence))
