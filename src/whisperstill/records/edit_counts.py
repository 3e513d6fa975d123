"""Edit counts of an alignment. Counts are summed; a rate is computed once, for display."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EditCounts:
    """Edits that turn a reference into a hypothesis, in words (or characters)."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def reference_length(self) -> int:
        """Words of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Number of edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float:
        """Error rate as a fraction; for an empty reference 0 without insertions, else infinite."""
        if self.reference_length:
            return self.errors / self.reference_length
        return float("inf") if self.errors else 0.0

    def __add__(self, other: "EditCounts") -> "EditCounts":
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


NO_EDITS = EditCounts(0, 0, 0, 0)
