"""Divergences between the teacher's and the student's token distributions.

With p the probabilities of the teacher and q those of the student, over the vocabulary or over k tokens and the tail:

| name | D | property |
| --- | --- | --- |
| `forward-kl` | sum p log(p / q) | the paper's (eq. 6): the student covers all that the teacher finds likely |
| `reverse-kl` | sum q log(q / p) | the student concentrates on the modes of the teacher (MiniLLM, arXiv 2306.08543) |
| `jsd` | (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2 | bounded, symmetric (GKD, arXiv 2306.13649) |
| `tv` | sum abs(p - q) / 2 | rejection rate in speculative decoding (DistillSpec, arXiv 2310.08461) |
| `skewed-kl` | KL(p, a p + (1 - a) q) with a = 0.1 | forward, with bounded gradients (DistiLLM, arXiv 2402.03898) |

Each D is a sum over tokens. With q = softmax(u) the gradient with respect to u is `s - q sum(s)`, where s is q times
the derivative of D with respect to q. Each function returns D and s; s is finite where q is 0.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.distill.settings import DIVERGENCES
from whisperstill.plugins import PluginGroup

SKEW_TEACHER_WEIGHT = 0.1
"""Weight a of the teacher in the mixture of `skewed-kl`."""

Cells = Float[Tensor, "rows cells"]


def divergence(name: str, log_p: Cells, log_q: Cells) -> tuple[Float[Tensor, "rows"], Cells]:
    """D of each row, and q times its derivative with respect to q, from log-probabilities (nats).

    `name` is one of the table above, or a loss that another package registered (`plugins`).
    """
    function = _DIVERGENCES.get(name) or PluginGroup[DivergenceFunction]("losses").load()[name]
    return function(log_p, log_q, log_p.exp(), log_q.exp())


def _forward_kl(log_p: Cells, log_q: Cells, p: Cells, q: Cells) -> tuple[Tensor, Tensor]:
    return (p * (log_p - log_q)).sum(-1), -p


def _reverse_kl(log_p: Cells, log_q: Cells, p: Cells, q: Cells) -> tuple[Tensor, Tensor]:
    terms = q * (log_q - log_p)
    return terms.sum(-1), terms + q


def _jsd(log_p: Cells, log_q: Cells, p: Cells, q: Cells) -> tuple[Tensor, Tensor]:
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0))
    student_terms = q * (log_q - log_m) / 2
    return (p * (log_p - log_m) / 2 + student_terms).sum(-1), student_terms


def _total_variation(log_p: Cells, log_q: Cells, p: Cells, q: Cells) -> tuple[Tensor, Tensor]:
    difference = q - p
    return difference.abs().sum(-1) / 2, q * difference.sign() / 2


def _skewed_kl(log_p: Cells, log_q: Cells, p: Cells, q: Cells) -> tuple[Tensor, Tensor]:
    mixture = SKEW_TEACHER_WEIGHT * p + (1 - SKEW_TEACHER_WEIGHT) * q
    mixture = mixture.clamp_min(torch.finfo(mixture.dtype).tiny)
    return (p * (log_p - mixture.log())).sum(-1), -(1 - SKEW_TEACHER_WEIGHT) * q * p / mixture


DivergenceFunction: TypeAlias = Callable[[Cells, Cells, Cells, Cells], tuple[Tensor, Tensor]]
"""(log p, log q, p, q) -> (D of each row, q times its derivative with respect to q)."""

_DIVERGENCES: dict[str, DivergenceFunction] = {
    "forward-kl": _forward_kl,
    "reverse-kl": _reverse_kl,
    "jsd": _jsd,
    "tv": _total_variation,
    "skewed-kl": _skewed_kl,
}
assert set(_DIVERGENCES) == set(DIVERGENCES)
