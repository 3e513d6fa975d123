"""Sums and counts of a loss. Sums add over micro-batches, ranks and the last short batch; means are for display."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over tokens, with their counts."""

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
    taught: int = 0

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __iter__(self) -> Iterator[float]:
        return iter(astuple(self))

    @classmethod
    def of(cls, values: Sequence[float]) -> "LossSums":
        """The sums whose values these are."""
        cross_entropy, kl, hidden, layers, attention, correct, scored, taught = values
        return cls(cross_entropy, kl, hidden, layers, attention, int(correct), int(scored), int(taught))

    def means(self) -> dict[str, float]:
        """Means per token, for display."""
        scored, taught = max(1, self.scored), max(1, self.taught)
        return {
            "cross_entropy": self.cross_entropy / scored,
            "kl": self.kl / taught,
            "hidden": self.hidden / taught,
            "layers": self.layers / taught,
            "attention": self.attention / taught,
            "agreement": self.correct / scored,
        }
