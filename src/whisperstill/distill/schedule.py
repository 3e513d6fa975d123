"""Learning-rate schedules."""

import math
from typing import Literal

Shape = Literal["linear", "cosine", "constant"]


def learning_rate_factor(step: int, *, warmup: int, total: int, shape: Shape) -> float:
    """Share of the peak learning rate at a step (0-based): linear warm-up, then a decay to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, (total - step) / max(1, total - warmup))
    if shape == "constant":
        return 1.0
    return left if shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
