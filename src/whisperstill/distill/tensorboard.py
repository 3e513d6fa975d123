"""Metrics to TensorBoard, where it is installed (extra `tensorboard`)."""

from pathlib import Path


class Board:
    """Scalars for TensorBoard; silently nothing when the library is not there."""

    def __init__(self, directory: Path, resume_step: int, writes: bool) -> None:
        self._writer = None
        if not writes:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(directory), purge_step=resume_step + 1)

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Scalars of a step."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()
