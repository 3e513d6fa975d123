"""Memory of a training: the micro-batch size that fits, and returning unused heap memory to the system.

The micro-batch size depends on total, not on free memory, so a machine always cuts a run into the same micro-batches
and a resumed run ends with the same bits. Micro-batches change only memory, speed, and the branches that dropout drops,
since their gradients add up token by token.
"""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

from whisperstill.model.dims import Dims
from whisperstill.units import MAX_TARGET_POSITIONS, WINDOW_POSITIONS

WINDOW_MEMORY_FRACTION = 0.25
"""Fraction of total memory for the windows of a micro-batch; weights, optimizer and logits need the rest."""
CGROUP_LIMIT_PATHS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Memory limit of a container on Linux: control groups version 2 and version 1."""
ACTIVATION_WIDTHS_PER_TOKEN = 48
"""Activations and gradients of a decoder layer per token, in multiples of the width."""


def window_bytes(dims: Dims) -> int:
    """Upper bound of the bytes of a window in training: states, keys and values with gradients, activations."""
    states = 2 * WINDOW_POSITIONS * dims.width
    cross = 4 * WINDOW_POSITIONS * dims.width * dims.decoder_layers
    tokens = ACTIVATION_WIDTHS_PER_TOKEN * MAX_TARGET_POSITIONS * dims.width * dims.decoder_layers
    return 4 * (states + cross + tokens)


def total_memory(device: str) -> int:
    """Bytes of memory of the device, or the limit of the container."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not available on this system
        physical_bytes = 8 * 2**30
    return min([physical_bytes, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """Memory limits, in bytes, of the control group of this process."""
    limits = []
    for path in CGROUP_LIMIT_PATHS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return limits


def default_micro_batch_size(dims: Dims, device: str) -> int:
    """Largest number of windows that fits `WINDOW_MEMORY_FRACTION` of the memory; at least 1."""
    return max(1, int(WINDOW_MEMORY_FRACTION * total_memory(device) / window_bytes(dims)))


class HeapTrimmer:
    """Returns unused heap memory to the system (`malloc_trim`) when the process uses much of the machine.

    Steps have different numbers of tokens, so their temporaries fragment the heap, which can grow to several times of
    what is in use where it never shrinks by itself (`cli.allocator`). Trimming costs page faults in the next step, so
    it is done only above a fraction of the memory, and again only after the process has grown by half. glibc only.
    """

    def __init__(self, max_fraction: float = 0.25) -> None:
        """`max_fraction`: fraction of the memory above which the heap is trimmed."""
        self._min_trim_bytes = self._trim_above_bytes = max_fraction * total_memory("cpu")

    def trim(self) -> bool:
        """Call after each step; returns whether the heap was trimmed."""
        libc = _glibc()
        if libc is None or resident_bytes() < self._trim_above_bytes:
            return False
        libc.malloc_trim(0)
        self._trim_above_bytes = max(self._min_trim_bytes, 1.5 * resident_bytes())
        return True


def resident_bytes() -> int:
    """Resident bytes of this process; 0 where unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@cache
def _glibc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):  # not glibc
        return None
    return libc
