"""Feature losses: the student's inner states compared with the teacher's.

* `hidden`: mean squared error between the last normalized hidden states.
* `layers`: mean squared error between the outputs of matched layers, both normalized (the residual stream has
  components a hundred times larger than others). A student layer is matched with the teacher layer just below the one
  its successor was copied from, which is the input that its successor was trained on.
* `attention`: KL divergence between the cross-attention of each student layer and that of the teacher layer it was
  copied from, both averaged over heads.

Hidden states and attention maps follow TinyBERT (Jiao et al. 2020, arXiv 1909.10351). The paper found no gain from
hidden states with 20 000 hours of speech; with four hours they help most.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from whisperstill.distill.settings import LossConfig
from whisperstill.distill.teacher_targets import TeacherTargets
from whisperstill.model.decoder import LayerOutputs
from whisperstill.records.batch import TokenBatch

MIN_ATTENTION_PROB = 1e-9
"""Lower bound of attention probabilities, before the logarithm."""

TokenWeights = Float[Tensor, "tokens"]
"""Weight of each token; 0 outside the KL loss."""


@dataclass(frozen=True, slots=True)
class FeatureLossSums:
    """Sums over tokens; 0 for a loss that is not used."""

    hidden: Float[Tensor, ""]
    layers: Float[Tensor, ""]
    attention: Float[Tensor, ""]


@dataclass(frozen=True)
class FeatureLosses:
    """The feature losses with a weight above 0, for a student with these layers of a teacher of `teacher_depth`."""

    config: LossConfig
    teacher_layers: tuple[int, ...] = ()
    teacher_depth: int = 0

    def teacher_capture(self) -> LayerOutputs | None:
        """An empty record for the teacher's layer outputs; None where no loss needs them."""
        attention_layers = self.teacher_layers if self.config.attention_loss_weight else ()
        return LayerOutputs(frozenset(attention_layers)) if self.config.needs_layer_outputs else None

    def student_capture(self) -> LayerOutputs | None:
        """An empty record for the student's layer outputs; None where no loss needs them."""
        attention_layers = range(len(self.teacher_layers)) if self.config.attention_loss_weight else ()
        return LayerOutputs(frozenset(attention_layers)) if self.config.needs_layer_outputs else None

    def compute(
        self,
        hidden: Float[Tensor, "tokens width"],
        layer_outputs: LayerOutputs | None,
        targets: TeacherTargets,
        batch: TokenBatch,
    ) -> FeatureLossSums:
        """Sums over the tokens in the KL loss, from the student's last hidden states and layer outputs."""
        zero = torch.zeros((), device=hidden.device)
        hidden_loss = layer_loss = attention_loss = zero
        if self.config.hidden_loss_weight and targets.hidden is not None:
            hidden_loss = _hidden_loss(hidden, targets.hidden, batch.kl_mask, batch.token_weights)
        if layer_outputs is not None and targets.layer_outputs is not None:
            token_weights = batch.token_weights * batch.kl_mask
            if self.config.layer_loss_weight:
                layer_loss = self.layer_loss(layer_outputs, targets.layer_outputs, token_weights)
            if self.config.attention_loss_weight:
                attention_loss = self.attention_loss(layer_outputs, targets.layer_outputs, token_weights)
        return FeatureLossSums(hidden_loss, layer_loss, attention_loss)

    def layer_loss(
        self, student: LayerOutputs, teacher: LayerOutputs, token_weights: TokenWeights
    ) -> Float[Tensor, ""]:
        """Weighted sum over tokens of the squared error, averaged over layers and width."""
        target_layers = [layer - 1 for layer in (*self.teacher_layers[1:], self.teacher_depth)]
        layer_losses = [
            (_normalize(student_output) - _normalize(teacher.hidden_states[layer])).square().mean(-1) @ token_weights
            for student_output, layer in zip(student.hidden_states, target_layers, strict=True)
        ]
        return torch.stack(layer_losses).mean()

    def attention_loss(
        self, student: LayerOutputs, teacher: LayerOutputs, token_weights: TokenWeights
    ) -> Float[Tensor, ""]:
        """Weighted sum over tokens of KL(teacher || student) of the cross-attention, averaged over layers."""
        layer_losses = []
        for index, layer in enumerate(self.teacher_layers):
            p, q = teacher.mean_attention[layer], student.mean_attention[index]
            log_ratio = p.clamp_min(MIN_ATTENTION_PROB).log() - q.clamp_min(MIN_ATTENTION_PROB).log()
            layer_losses.append((p * log_ratio).sum(-1) @ token_weights)
        return torch.stack(layer_losses).mean()


def _hidden_loss(
    hidden: Float[Tensor, "tokens width"],
    teacher_hidden: Float[Tensor, "taught width"],
    kl_mask: Bool[Tensor, "tokens"],
    token_weights: TokenWeights,
) -> Float[Tensor, ""]:
    squared_error = (hidden[kl_mask].float() - teacher_hidden).square().mean(-1)
    return (squared_error * token_weights[kl_mask]).sum()


def _normalize(x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
    return F.layer_norm(x.float(), x.shape[-1:])
