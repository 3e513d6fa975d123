"""Rooms that reverberate for a given time, by the image sources of pyroomacoustics (Scheibler et al. 2018).

A room is a box with equal walls; larger where it reverberates for longer, as rooms are. Speaker and microphone stand
0.5 to 3 m apart. The same few rooms, larger or smaller, serve every time, for an impulse response takes up to seconds
to compute and convolving takes nothing.

The trap: Sabine's formula says how much the walls have to absorb, and boxes made by it reverberate up to a fifth too
long. The response is therefore measured, and the walls mended: in a box each wall hit costs the same number of dB, so
that the time is inverse to log(1 − absorption).
"""

from functools import cache
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float32

from whisperstill.errors import MissingExtraError
from whisperstill.records.random import rng
from whisperstill.units import SAMPLE_RATE

SHORTEST, LONGEST = 0.2, 1.5
"""Seconds until a sound has fallen by 60 dB: a booth, a hall. Beyond it the images take seconds and a GB."""
ROOMS = 8
"""Rooms of each reverberation time."""
USUAL_SIZE, USUAL_SECONDS = (5.0, 6.0, 3.0), 0.5
"""Metres, and the time that goes with them; every length grows with the root of the time, and varies by a fifth."""
VARIATION = 0.2
WALL = 0.4
"""Metres that speaker and microphone keep from the walls."""
NEAREST, FARTHEST = 0.5, 3.0
"""Metres from the speaker to the microphone."""
MEASURED_DB = 30
"""Decay from −5 dB on from which the time is told (T30 of ISO 3382-2)."""


def check_installed() -> None:
    """Raises `MissingExtraError` without pyroomacoustics."""
    if find_spec("pyroomacoustics") is None:
        raise MissingExtraError("a room that reverberates", "rooms")


def reverberate(
    sound: Float32[np.ndarray, "samples"], seconds: float, draw: np.random.Generator
) -> Float32[np.ndarray, "samples"]:
    """The sound in one of the rooms with this reverberation time (RT60 in s, 0.2 to 1.5), as strong as it was.

    The direct sound arrives at once, and what reverberates beyond the end is cut off. Raises `MissingExtraError`.
    """
    response, lead = room_response(seconds, int(draw.integers(ROOMS)))
    length = len(sound) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(sound, length) * np.fft.rfft(response, length), length)[lead : lead + len(sound)]
    before, after = (float(np.square(each, dtype=np.float64).sum()) for each in (sound, wet))
    if not before or not after:
        return sound.copy()
    found: np.ndarray = (wet * np.sqrt(before / after)).astype(np.float32)
    return found


@cache
def room_response(seconds: float, number: int) -> tuple[Float32[np.ndarray, "taps"], int]:
    """Impulse response of room `number`, and the sample of it (a few from its beginning) at which the sound arrives.

    Raises `MissingExtraError`.
    """
    check_installed()
    import pyroomacoustics

    draw = rng("rooms", number)
    size = np.sqrt(seconds / USUAL_SECONDS) * np.array(USUAL_SIZE) * draw.uniform(1 - VARIATION, 1 + VARIATION, 3)
    speaker, microphone = _places(size, draw)
    absorbed, order = pyroomacoustics.inverse_sabine(seconds, size)

    def simulated(absorbed: float) -> tuple[np.ndarray, float]:
        walls = pyroomacoustics.Material(absorbed)
        room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=walls, max_order=order)
        room.add_source(speaker)
        room.add_microphone(microphone)
        room.compute_rir()
        return room.rir[0][0], room.c

    response, _ = simulated(absorbed)
    measured = pyroomacoustics.experimental.measure_rt60(response, SAMPLE_RATE, MEASURED_DB)
    response, speed = simulated(1 - (1 - absorbed) ** (measured / seconds))
    arrival = round(float(np.linalg.norm(speaker - microphone)) / speed * SAMPLE_RATE)
    lead = int(pyroomacoustics.constants.get("frac_delay_length")) // 2  # the library delays all by half its filter
    return response[arrival:].astype(np.float32), lead


def _places(size: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where speaker and microphone are, in metres."""
    while True:
        one, other = draw.uniform(WALL, size - WALL, (2, 3))
        if NEAREST <= np.linalg.norm(one - other) <= FARTHEST:
            return one, other
