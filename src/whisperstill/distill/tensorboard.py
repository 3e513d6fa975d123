"""Metrics to TensorBoard, where it is installed (extra `tensorboard`)."""

from pathlib import Path


class TensorBoardLogger:
    """Scalars for TensorBoard; silently nothing when the library is not there."""

    def __init__(self, directory: Path, resume_step: int, enabled: bool) -> None:
        self._writer = None
        if not enabled:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(directory), purge_step=resume_step + 1)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Scalars of a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()
