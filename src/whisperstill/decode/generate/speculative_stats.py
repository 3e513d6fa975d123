"""What speculation did, and where the time went."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class SpeculativeStats:
    """What was proposed and what became of it, over all rows."""

    verifications: int = 0
    """Blocks that a row was read in."""
    proposed: int = 0
    accepted: int = 0
    tokens: int = 0
    """Decoded, end tokens included."""
    encoder_seconds: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    """Of all else that decoding does, the network's own steps above all."""

    def __add__(self, other: "SpeculativeStats") -> "SpeculativeStats":
        return SpeculativeStats(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def update(
        self, num_rows: int, drafted: int, accepted: int, tokens: int, draft_seconds: float, verify_seconds: float
    ) -> None:
        """One more block."""
        self.verifications += num_rows
        self.proposed += num_rows * drafted
        self.accepted += accepted
        self.tokens += tokens
        self.draft_seconds += draft_seconds
        self.verify_seconds += verify_seconds

    @property
    def acceptance_rate(self) -> float:
        """Share of the proposed tokens that stand."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_per_verification(self) -> float:
        """1 for greedy decoding."""
        return self.tokens / max(1, self.verifications)

    def time_share(self, part: str) -> float:
        """Share of the time in `encoder`, `draft` or `verify`."""
        total = self.encoder_seconds + self.draft_seconds + self.verify_seconds
        return float(getattr(self, f"{part}_seconds")) / total if total else 0.0
