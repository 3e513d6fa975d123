"""How many windows a step's gradients are taken of at a time: as many as memory holds.

Gradients of micro-batches add up to those of the whole, token by token, so this changes nothing but memory and speed
(and which branches dropout drops).
Total memory is asked, not what happens to be free: on one machine a run is cut into the same micro-batches each time,
and a resumed one ends with the same bits.
"""

import os

import torch

from whisperstill.model.dims import Dims
from whisperstill.units import TEXT_POSITIONS, WINDOW_POSITIONS

SHARE = 0.25
"""Of all memory, for what the windows of a micro-batch need; weights, optimiser and logits need some, too."""
PER_TOKEN = 48
"""Values kept for the backward pass of a decoder layer and what it makes of them, in widths."""


def window_bytes(dims: Dims) -> int:
    """Most bytes that a window takes in training: states, keys and values with their gradients, activations."""
    states = 2 * WINDOW_POSITIONS * dims.width
    cross = 4 * WINDOW_POSITIONS * dims.width * dims.decoder_layers
    tokens = PER_TOKEN * TEXT_POSITIONS * dims.width * dims.decoder_layers
    return 4 * (states + cross + tokens)


def total_memory(device: str) -> int:
    """Bytes of the device."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return 8 * 2**30


def windows_at_a_time(dims: Dims, device: str) -> int:
    """Windows of a micro-batch; at least one."""
    return max(1, int(SHARE * total_memory(device) / window_bytes(dims)))
