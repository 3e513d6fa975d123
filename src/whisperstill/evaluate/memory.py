"""How much memory a network needs: of a process that does nothing else.

An allocator keeps what it once had, so the second network measured in a process would look like the first. On a CPU
each measurement is a process of its own, `python -m whisperstill.evaluate.memory`, whose largest resident size counts;
on a GPU the device's allocator can be asked.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from whisperstill.decode.recogniser import Recogniser
from whisperstill.evaluate.speed import take_turn
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.int8 import Int8Linear
from whisperstill.model.whisper import Whisper

STEPS = 8
MIB = 2**20


def weights_mib(network: Whisper) -> float:
    """Of the weights as they are held, MiB."""
    seen = {one.data_ptr(): one.numel() * one.element_size() for one in (*network.parameters(), *network.buffers())}
    rounded = sum(one.bytes for one in network.modules() if isinstance(one, Int8Linear))
    return (sum(seen.values()) + rounded) / MIB


def peak_mib(source: str, batch_size: int, device: str, dtype: str) -> float:
    """Most memory, MiB, while `batch_size` windows are encoded and decoded in `dtype` (`float32`, `bfloat16`, `int8`):
    the process's on a CPU (its code and libraries included), the tensors' on a GPU. 0 where it cannot be measured."""
    if torch.device(device).type == "cuda":
        return _on_gpu(source, batch_size, device, dtype)
    called = [sys.executable, "-m", "whisperstill.evaluate.memory", source]
    called += ["--batch-size", str(batch_size), "--dtype", dtype]
    done = subprocess.run(called, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    try:
        return float(json.loads(done.stdout)["peak_mib"])
    except (ValueError, KeyError):
        return 0.0


def _network(source: str, device: str, dtype: str) -> Whisper:
    checkpoint = load_checkpoint(source)
    if dtype == "int8":
        return Recogniser(checkpoint, device=device, int8=True).network
    return Whisper.from_state(checkpoint.dims, checkpoint.state, getattr(torch, dtype), device)


def _on_gpu(source: str, batch_size: int, device: str, dtype: str) -> float:
    before = torch.cuda.memory_allocated(device)
    network = _network(source, device, dtype)
    torch.cuda.reset_peak_memory_stats(device)
    take_turn(network, STEPS, batch_size)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def _forget_peak() -> None:
    """Loading needs more than running: what was needed so far does not count, where the system can be told so."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
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
    given = parser.parse_args()
    network = _network(given.source, "cpu", given.dtype)
    _forget_peak()
    take_turn(network, STEPS, given.batch_size)
    sys.stdout.write(json.dumps({"peak_mib": _peak()}))


if __name__ == "__main__":
    _main()
