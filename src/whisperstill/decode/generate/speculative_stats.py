"""Counts and times of speculative decoding."""

from dataclasses import dataclass


@dataclass(slots=True)
class SpeculativeStats:
    """Sums over all rows and steps."""

    verifications: int = 0
    """Blocks, counted once per row."""
    proposed: int = 0
    """Tokens proposed by the draft model."""
    accepted: int = 0
    """Proposed tokens that equal the network's choice."""
    tokens: int = 0
    """Decoded tokens, end tokens included."""
    encoder_seconds: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    """All other time of decoding, most of it in the network's decoder."""

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the proposed tokens."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_per_verification(self) -> float:
        """Decoded tokens per block and row: 1 without a draft model."""
        return self.tokens / max(1, self.verifications)

    def time_share(self, part: str) -> float:
        """Share of the total time in `encoder`, `draft` or `verify`."""
        total = self.encoder_seconds + self.draft_seconds + self.verify_seconds
        return float(getattr(self, f"{part}_seconds")) / total if total else 0.0
