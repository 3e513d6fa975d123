"""Random generators seeded by what they are for, independent of the order of use."""

import hashlib

import numpy as np


def rng(*key: str | int) -> np.random.Generator:
    """Generator for a key such as `(seed, epoch, id, purpose)`; number of workers, order and resuming do not matter."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
