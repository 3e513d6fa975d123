"""How much memory training takes.

How many windows a step's gradients are taken of at a time: as many as memory holds.

Gradients of micro-batches add up to those of the whole, token by token, so this changes nothing but memory and speed
(and which branches dropout drops).
Total memory is asked, not what happens to be free: on one machine a run is cut into the same micro-batches each time,
and a resumed one ends with the same bits.

What a CPU's heap holds unused is given back before it fills the machine (`HeapTrimmer`).
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
"""Of all memory, for what the windows of a micro-batch need; weights, optimiser and logits need some, too."""
CGROUP_LIMIT_PATHS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says what a container may take: control groups of version 2, and of version 1."""
ACTIVATION_WIDTHS_PER_TOKEN = 48
"""Values kept for the backward pass of a decoder layer and what it makes of them, in widths."""


def window_bytes(dims: Dims) -> int:
    """Most bytes that a window takes in training: states, keys and values with their gradients, activations."""
    states = 2 * WINDOW_POSITIONS * dims.width
    cross = 4 * WINDOW_POSITIONS * dims.width * dims.decoder_layers
    tokens = ACTIVATION_WIDTHS_PER_TOKEN * MAX_TARGET_POSITIONS * dims.width * dims.decoder_layers
    return 4 * (states + cross + tokens)


def total_memory(device: str) -> int:
    """Bytes of the device; of a container as many as it may take."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        physical_bytes = 8 * 2**30
    return min([physical_bytes, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """Bytes that this process's control group may take, where it is limited."""
    limits = []
    for path in CGROUP_LIMIT_PATHS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return limits


def default_micro_batch_size(dims: Dims, device: str) -> int:
    """Windows of a micro-batch; at least one."""
    return max(1, int(WINDOW_MEMORY_FRACTION * total_memory(device) / window_bytes(dims)))


class HeapTrimmer:
    """Gives memory that lies about in pieces back to the system, once it is much.

    No two steps have as many tokens, so their temporaries fit badly into the places of those before; a heap that never
    shrinks by itself (`cli.allocator`) can grow to several times of what is in use. After it is given back the next
    step meets fresh pages, which costs it some time: so only where more than a share of the machine is taken, and not
    again before half as much has come on top of what was left. For glibc; elsewhere nothing is done.
    """

    def __init__(self, max_fraction: float = 0.25) -> None:
        """`max_fraction`: share of the machine's memory that the process may take before."""
        self._min_trim_bytes = self._trim_above_bytes = max_fraction * total_memory("cpu")

    def trim(self) -> bool:
        """To be called after a step; whether memory was given back."""
        libc = _glibc()
        if libc is None or resident_bytes() < self._trim_above_bytes:
            return False
        libc.malloc_trim(0)
        self._trim_above_bytes = max(self._min_trim_bytes, 1.5 * resident_bytes())
        return True


def resident_bytes() -> int:
    """Bytes of this process in memory; 0 where that is not told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@cache
def _glibc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):  # another system, or another C library
        return None
    return libc
