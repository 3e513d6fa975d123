"""Metrics for TensorBoard (extra `tensorboard`)."""

from collections.abc import Mapping
from pathlib import Path


class TensorBoardTracker:
    """Scalars in `tensorboard/` of the output; does nothing if TensorBoard is not installed."""

    def __init__(self, output: Path, resume_step: int) -> None:
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(output / "tensorboard"), purge_step=resume_step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the scalars of a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
