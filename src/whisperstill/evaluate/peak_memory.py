"""How much memory a network needs: of a process that does nothing else.

An allocator keeps what it once had, so the second network measured in a process would look like the first. On a CPU
each measurement is a process of its own, `python -m whisperstill.evaluate.peak_memory`, whose largest resident size
counts; on a GPU the device's allocator can be asked.
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
from whisperstill.evaluate.speed import time_batch
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.int8 import Int8Linear
from whisperstill.model.whisper import Whisper

DECODE_STEPS = 8
MIB = 2**20


def weights_mib(network: Whisper) -> float:
    """Of the weights as they are held, MiB."""
    bytes_by_pointer = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in (*network.parameters(), *network.buffers())
    }
    int8_bytes = sum(module.num_bytes for module in network.modules() if isinstance(module, Int8Linear))
    return (sum(bytes_by_pointer.values()) + int8_bytes) / MIB


def measure_peak_memory_mib(source: str, batch_size: int, device: str, dtype: str) -> float:
    """Most memory, MiB, while `batch_size` windows are encoded and decoded in `dtype` (`float32`, `bfloat16`, `int8`):
    the process's on a CPU (its code and libraries included), the tensors' on a GPU. 0 where it cannot be measured."""
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
    """Loading needs more than running: what was needed so far does not count, where the system can be told so."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_rss_mib() -> float:
    """MiB."""
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
