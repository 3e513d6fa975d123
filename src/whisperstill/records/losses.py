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
    correct: int = 0
    """Scored tokens where the student's most probable token is the target."""
    scored: int = 0
    scored_weight: float = 0.0
    """Of the scored tokens together: as many as they are, where none is weighed."""
    taught_weight: float = 0.0

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __iter__(self) -> Iterator[float]:
        return iter(astuple(self))

    @classmethod
    def of(cls, values: Sequence[float]) -> "LossSums":
        """The sums whose values these are."""
        cross_entropy, kl, hidden, layers, attention, correct, scored, *of_weights = values
        return cls(cross_entropy, kl, hidden, layers, attention, int(correct), int(scored), *of_weights)

    def means(self) -> dict[str, float]:
        """Means per token, for display."""
        scored, taught = self.scored_weight or 1.0, self.taught_weight or 1.0
        return {
            "cross_entropy": self.cross_entropy / scored,
            "kl": self.kl / taught,
            "hidden": self.hidden / taught,
            "layers": self.layers / taught,
            "attention": self.attention / taught,
            "agreement": self.correct / max(1, self.scored),
        }
