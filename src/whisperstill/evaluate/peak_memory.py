"""Peak memory of a network during inference.

A process keeps memory that it has freed, so a second network measured in it would look like the first. On a CPU each
measurement therefore runs in a process of its own (`python -m whisperstill.evaluate.peak_memory`) and reads its peak
resident size; on a GPU the caching allocator reports its peak.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.speed import MIB, time_batch
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.whisper import Whisper
from whisperstill.records.eval_results import ModelInfo

DECODE_STEPS = 8


def measure_peak_memory_mib(model: ModelInfo, batch_size: int) -> float:
    """Peak memory in MiB while `batch_size` windows are encoded and decoded.

    On a CPU that of the process, code and libraries included; on a GPU that of tensors. 0 if it cannot be measured.
    """
    if torch.device(model.device).type == "cuda":
        allocated_before = torch.cuda.memory_allocated(model.device)
        network = _load_network(model.source, model.device, model.dtype)
        torch.cuda.reset_peak_memory_stats(model.device)
        time_batch(network, DECODE_STEPS, batch_size)
        return (torch.cuda.max_memory_allocated(model.device) - allocated_before) / MIB
    command = [sys.executable, "-m", "whisperstill.evaluate.peak_memory", model.source, str(batch_size), model.dtype]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment)
    return 0.0 if completed.returncode else float(completed.stdout)


def _load_network(source: str, device: str, dtype: str) -> Whisper:
    checkpoint = load_checkpoint(source)
    if dtype == "int8":
        return WhisperModel(checkpoint, device=device, int8=True).network
    return Whisper.from_state(checkpoint.dims, checkpoint.state, getattr(torch, dtype), device)


def _peak_rss_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def _main(source: str, batch_size: str, dtype: str) -> None:
    network = _load_network(source, "cpu", dtype)
    with contextlib.suppress(OSError):  # loading needs more memory than running: exclude it where the kernel can
        Path("/proc/self/clear_refs").write_text("5")
    time_batch(network, DECODE_STEPS, int(batch_size))
    sys.stdout.write(str(_peak_rss_mib()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
