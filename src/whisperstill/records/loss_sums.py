"""Sums and counts of the losses. Sums add over micro-batches and processes; means are formed once, for display."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class LossSums:
    """Weighted sums of the losses over tokens, and the sums of the weights."""

    cross_entropy: float = 0.0
    """Cross-entropy on the pseudo-labels, nats."""
    kl: float = 0.0
    """T^2 KL(teacher || student) at temperature T, nats."""
    hidden: float = 0.0
    """Mean squared error between last hidden states."""
    layers: float = 0.0
    """Mean squared error between normalized layer outputs."""
    attention: float = 0.0
    """KL(teacher || student) of the cross-attention, nats."""
    correct_tokens: int = 0
    """Tokens in the cross-entropy whose most probable prediction is the target."""
    loss_tokens: int = 0
    """Tokens in the cross-entropy."""
    loss_token_weight: float = 0.0
    """Sum of the weights of the tokens in the cross-entropy; their number where the labels are not weighted."""
    kl_token_weight: float = 0.0
    """Sum of the weights of the tokens in the KL loss."""

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums.from_values([value + other_value for value, other_value in zip(self, other, strict=True)])

    def __iter__(self) -> Iterator[float]:
        return iter(astuple(self))

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "LossSums":
        """The inverse of iteration; counts become integers again."""
        cross_entropy, kl, hidden, layers, attention, correct_tokens, loss_tokens, *weights = values
        return cls(cross_entropy, kl, hidden, layers, attention, int(correct_tokens), int(loss_tokens), *weights)

    def means(self) -> dict[str, float]:
        """Means per token, for display."""
        loss_token_weight, kl_token_weight = self.loss_token_weight or 1.0, self.kl_token_weight or 1.0
        return {
            "cross_entropy": self.cross_entropy / loss_token_weight,
            "kl": self.kl / kl_token_weight,
            "hidden": self.hidden / kl_token_weight,
            "layers": self.layers / kl_token_weight,
            "attention": self.attention / kl_token_weight,
            "token_accuracy": self.correct_tokens / max(1, self.loss_tokens),
        }
