"""Learning-rate schedules."""

import math
from typing import Literal

LrSchedulerType = Literal["linear", "cosine", "constant"]


def learning_rate_factor(
    step: int, *, warmup_steps: int, total_steps: int, lr_scheduler_type: LrSchedulerType
) -> float:
    """Share of the peak learning rate at a step (0-based): linear warm-up, then a decay to 0 at `total_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    remaining = max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    if lr_scheduler_type == "constant":
        return 1.0
    return remaining if lr_scheduler_type == "linear" else 0.5 - 0.5 * math.cos(math.pi * remaining)
