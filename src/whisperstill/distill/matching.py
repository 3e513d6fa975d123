"""What of the teacher's inside the student is held against, beside what both say.

* `hidden`: the last normalised hidden states, from which the distribution is made; mean squared error.
* `layers`: what each student layer hands on. The layer above it was cut out of the teacher and knows the output of the
  teacher's layer below: that is what it is to get. Mean squared error of both, normalised (the residual stream has
  cells a hundred times as large as the others).
* `attention`: where the layers that the student kept look in the window, mean over heads; KL divergence.

Sources: hidden states and attention maps after TinyBERT (Jiao et al. 2020, arXiv 1909.10351). The paper gained nothing
by hidden states, with 20 000 hours to learn from; with four they are what helps most.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whisperstill.model.decoder import Inside

LEAST = 1e-9
"""Weight of attention that counts as none."""

Counts = Float[Tensor, "tokens"]
"""How much each token counts; 0 where nothing is taught."""


@dataclass(frozen=True)
class Matching:
    """Weights of the parts, and which of the teacher's `depth` layers the student has."""

    hidden: float = 0.0
    layers: float = 0.0
    attention: float = 0.0
    kept: tuple[int, ...] = ()
    depth: int = 0

    @property
    def looks_inside(self) -> bool:
        """Whether the teacher has to be there."""
        return bool(self.layers or self.attention)

    def of_teacher(self) -> Inside | None:
        """What the teacher is to tell."""
        return Inside(frozenset(self.kept if self.attention else ())) if self.looks_inside else None

    def of_student(self) -> Inside | None:
        """What the student is to tell."""
        looked_at = range(len(self.kept)) if self.attention else ()
        return Inside(frozenset(looked_at)) if self.looks_inside else None

    def layer_distance(self, student: Inside, teacher: Inside, counts: Counts) -> Float[Tensor, ""]:
        """Sum over tokens of the error times `counts`, mean over layers and width."""
        below = [layer - 1 for layer in (*self.kept[1:], self.depth)]
        parts = [
            (_normalised(ours) - _normalised(teacher.outputs[layer])).square().mean(-1) @ counts
            for ours, layer in zip(student.outputs, below, strict=True)
        ]
        return torch.stack(parts).mean()

    def attention_distance(self, student: Inside, teacher: Inside, counts: Counts) -> Float[Tensor, ""]:
        """Sum over tokens of KL(teacher || student) of the places looked at, times `counts`, mean over layers."""
        parts = []
        for index, layer in enumerate(self.kept):
            p, q = teacher.looks[layer], student.looks[index]
            parts.append((p * (p.clamp_min(LEAST).log() - q.clamp_min(LEAST).log())).sum(-1) @ counts)
        return torch.stack(parts).mean()


def _normalised(x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
    return F.layer_norm(x.float(), x.shape[-1:])
