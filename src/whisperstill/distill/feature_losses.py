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

from whisperstill.model.decoder import LayerOutputs

MIN_ATTENTION_PROB = 1e-9
"""Weight of attention that counts as none."""

TokenWeights = Float[Tensor, "tokens"]
"""How much each token counts; 0 where nothing is taught."""


@dataclass(frozen=True)
class FeatureLossConfig:
    """Weights of the parts, and which of the teacher's `teacher_depth` layers the student has."""

    hidden_loss_weight: float = 0.0
    layer_loss_weight: float = 0.0
    attention_loss_weight: float = 0.0
    teacher_layers: tuple[int, ...] = ()
    teacher_depth: int = 0

    @property
    def needs_online_teacher(self) -> bool:
        """Whether the teacher has to be there."""
        return bool(self.layer_loss_weight or self.attention_loss_weight)

    def weight_of(self, loss: str) -> float:
        """The weight of `hidden`, `layers` or `attention`: the names in `LossSums`."""
        weights = {
            "hidden": self.hidden_loss_weight,
            "layers": self.layer_loss_weight,
            "attention": self.attention_loss_weight,
        }
        return weights[loss]

    def teacher_capture(self) -> LayerOutputs | None:
        """What the teacher is to tell."""
        return (
            LayerOutputs(frozenset(self.teacher_layers if self.attention_loss_weight else ()))
            if self.needs_online_teacher
            else None
        )

    def student_capture(self) -> LayerOutputs | None:
        """What the student is to tell."""
        captured_layers = range(len(self.teacher_layers)) if self.attention_loss_weight else ()
        return LayerOutputs(frozenset(captured_layers)) if self.needs_online_teacher else None

    def layer_loss(
        self, student: LayerOutputs, teacher: LayerOutputs, token_weights: TokenWeights
    ) -> Float[Tensor, ""]:
        """Sum over tokens of the error times `token_weights`, mean over layers and width."""
        target_layers = [layer - 1 for layer in (*self.teacher_layers[1:], self.teacher_depth)]
        layer_losses = [
            (_normalize(student_output) - _normalize(teacher.hidden_states[layer])).square().mean(-1) @ token_weights
            for student_output, layer in zip(student.hidden_states, target_layers, strict=True)
        ]
        return torch.stack(layer_losses).mean()

    def attention_loss(
        self, student: LayerOutputs, teacher: LayerOutputs, token_weights: TokenWeights
    ) -> Float[Tensor, ""]:
        """Sum over tokens of KL(teacher || student) of the places looked at times `token_weights`, mean over layers."""
        layer_losses = []
        for index, layer in enumerate(self.teacher_layers):
            p, q = teacher.mean_attention[layer], student.mean_attention[index]
            layer_losses.append(
                (p * (p.clamp_min(MIN_ATTENTION_PROB).log() - q.clamp_min(MIN_ATTENTION_PROB).log())).sum(-1)
                @ token_weights
            )
        return torch.stack(layer_losses).mean()


def _normalize(x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
    return F.layer_norm(x.float(), x.shape[-1:])
