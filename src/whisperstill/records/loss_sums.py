"""Sums and counts of a loss. Sums add over micro-batches, ranks and the last short batch; means are for display."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over tokens, each times its weight, with the weights' own."""

    cross_entropy: float = 0.0
    """Sum of the pseudo-label loss, nats."""
    kl: float = 0.0
    """Sum of T^2 KL(teacher || student) at temperature T, nats."""
    hidden: float = 0.0
    """Sum over tokens of the mean squared error between last hidden states."""
    layers: float = 0.0
    """The same of what the layers hand on, normalised."""
    attention: float = 0.0
    """Sum over tokens of KL(teacher || student) of the places looked at, nats."""
    correct_tokens: int = 0
    """Scored tokens where the student's most probable token is the target."""
    loss_tokens: int = 0
    loss_token_weight: float = 0.0
    """Of the scored tokens together: as many as they are, where none is weighed."""
    kl_token_weight: float = 0.0

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __iter__(self) -> Iterator[float]:
        return iter(astuple(self))

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "LossSums":
        """The sums whose values these are."""
        cross_entropy, kl, hidden, layers, attention, correct, scored, *weight_sums = values
        return cls(cross_entropy, kl, hidden, layers, attention, int(correct), int(scored), *weight_sums)

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
