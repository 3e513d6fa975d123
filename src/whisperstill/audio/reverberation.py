"""Reverberation: simulated rooms of a given reverberation time (image sources, pyroomacoustics, Scheibler et al. 2018).

A room is a box with equal walls, larger for longer reverberation. Speaker and microphone are 0.5 to 3 m apart. A few
rooms per reverberation time are reused, because an impulse response takes up to seconds to compute.

Boxes with the wall absorption of Sabine's formula reverberate up to a fifth too long. The response is therefore
measured and the absorption corrected: in a box each reflection costs the same number of dB, so the reverberation time
is inverse to log(1 - absorption).
"""

from functools import cache
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float32

from whisperstill.audio.levels import Waveform
from whisperstill.errors import MissingExtraError
from whisperstill.records.seeding import rng
from whisperstill.units import SAMPLE_RATE

MIN_RT60_SECONDS, MAX_RT60_SECONDS = 0.2, 1.5
"""Range of RT60, from a booth to a hall; longer ones take seconds and a GB to simulate."""
NUM_ROOMS = 8
"""Rooms per reverberation time."""
BASE_ROOM_SIZE_M, BASE_RT60_SECONDS = (5.0, 6.0, 3.0), 0.5
"""Size of a room and its RT60; lengths grow with the square root of RT60, and vary by `ROOM_SIZE_VARIATION`."""
ROOM_SIZE_VARIATION = 0.2
MIN_WALL_DISTANCE_M = 0.4
"""Distance of speaker and microphone from the walls."""
MIN_MICROPHONE_DISTANCE_M, MAX_MICROPHONE_DISTANCE_M = 0.5, 3.0
"""Distance from speaker to microphone."""
RT60_MEASUREMENT_DECAY_DB = 30
"""Decay from -5 dB on over which RT60 is measured (T30 of ISO 3382-2)."""


def check_installed() -> None:
    """Raises `MissingExtraError` without pyroomacoustics."""
    if find_spec("pyroomacoustics") is None:
        raise MissingExtraError("reverberation", "rooms")


def reverberate(waveform: Waveform, rt60_seconds: float, generator: np.random.Generator) -> Waveform:
    """The waveform in a random room of this reverberation time (RT60, 0.2 to 1.5 s), with unchanged energy.

    The direct sound is not delayed, and reverberation beyond the end is cut off. Raises `MissingExtraError`.
    """
    response, lead_samples = room_impulse_response(rt60_seconds, int(generator.integers(NUM_ROOMS)))
    fft_length = len(waveform) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(waveform, fft_length) * np.fft.rfft(response, fft_length), fft_length)
    wet = wet[lead_samples : lead_samples + len(waveform)]
    energy_before, energy_after = (float(np.square(signal, dtype=np.float64).sum()) for signal in (waveform, wet))
    if not energy_before or not energy_after:
        return waveform.copy()
    scaled: np.ndarray = (wet * np.sqrt(energy_before / energy_after)).astype(np.float32)
    return scaled


@cache
def room_impulse_response(rt60_seconds: float, room_index: int) -> tuple[Float32[np.ndarray, "taps"], int]:
    """Impulse response of a room, and the sample at which the direct sound arrives. Raises `MissingExtraError`."""
    check_installed()
    import pyroomacoustics

    generator = rng("rooms", room_index)
    size = (
        np.sqrt(rt60_seconds / BASE_RT60_SECONDS)
        * np.array(BASE_ROOM_SIZE_M)
        * generator.uniform(1 - ROOM_SIZE_VARIATION, 1 + ROOM_SIZE_VARIATION, 3)
    )
    speaker, microphone = _draw_positions(size, generator)
    absorption, order = pyroomacoustics.inverse_sabine(rt60_seconds, size)

    def simulate(absorption: float) -> tuple[np.ndarray, float]:
        walls = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=walls, max_order=order)
        room.add_source(speaker)
        room.add_microphone(microphone)
        room.compute_rir()
        return room.rir[0][0], room.c

    response, _ = simulate(absorption)
    measured_rt60 = pyroomacoustics.experimental.measure_rt60(response, SAMPLE_RATE, RT60_MEASUREMENT_DECAY_DB)
    response, sound_speed = simulate(1 - (1 - absorption) ** (measured_rt60 / rt60_seconds))
    arrival = round(float(np.linalg.norm(speaker - microphone)) / sound_speed * SAMPLE_RATE)
    lead_samples = int(pyroomacoustics.constants.get("frac_delay_length")) // 2  # delay of the library's filter
    return response[arrival:].astype(np.float32), lead_samples


def _draw_positions(size: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        speaker, microphone = generator.uniform(MIN_WALL_DISTANCE_M, size - MIN_WALL_DISTANCE_M, (2, 3))
        if MIN_MICROPHONE_DISTANCE_M <= np.linalg.norm(speaker - microphone) <= MAX_MICROPHONE_DISTANCE_M:
            return speaker, microphone
