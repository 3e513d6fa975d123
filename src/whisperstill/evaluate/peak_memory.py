"""Peak memory of a network during inference.

A process keeps memory that it has freed, so a second network measured in it would look like the first. On a CPU each
measurement therefore runs in a process of its own (`python -m whisperstill.evaluate.peak_memory`) and reads its peak
resident size; on a GPU the caching allocator reports its peak.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.speed import MIB, time_batch
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.whisper import Whisper

DECODE_STEPS = 8


def measure_peak_memory_mib(source: str, batch_size: int, device: str, dtype: str) -> float:
    """Peak memory in MiB while `batch_size` windows are encoded and decoded in `dtype` (`float32`, `bfloat16`, `int8`).

    On a CPU that of the process, code and libraries included; on a GPU that of tensors. 0 if it cannot be measured.
    """
    if torch.device(device).type == "cuda":
        return _peak_mib_on_gpu(source, batch_size, device, dtype)
    command = [sys.executable, "-m", "whisperstill.evaluate.peak_memory", source]
    command += ["--batch-size", str(batch_size), "--dtype", dtype]
    completed = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    try:
        return float(json.loads(completed.stdout)["peak_memory_mib"])
    except (ValueError, KeyError):
        return 0.0


def _load_network(source: str, device: str, dtype: str) -> Whisper:
    checkpoint = load_checkpoint(source)
    if dtype == "int8":
        return WhisperModel(checkpoint, device=device, int8=True).network
    return Whisper.from_state(checkpoint.dims, checkpoint.state, getattr(torch, dtype), device)


def _peak_mib_on_gpu(source: str, batch_size: int, device: str, dtype: str) -> float:
    allocated_before = torch.cuda.memory_allocated(device)
    network = _load_network(source, device, dtype)
    torch.cuda.reset_peak_memory_stats(device)
    time_batch(network, DECODE_STEPS, batch_size)
    return (torch.cuda.max_memory_allocated(device) - allocated_before) / MIB


def _reset_peak_rss() -> None:
    """Excludes loading, which needs more memory than running, where the kernel supports it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_rss_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    network = _load_network(args.source, "cpu", args.dtype)
    _reset_peak_rss()
    time_batch(network, DECODE_STEPS, args.batch_size)
    sys.stdout.write(json.dumps({"peak_memory_mib": _peak_rss_mib()}))


if __name__ == "__main__":
    _main()
