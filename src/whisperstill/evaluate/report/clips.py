"""Stretches of recordings, small enough to lie within a page: mono mp3 of 32 kbit/s as data addresses."""

import base64
import io

import av
import numpy as np
from jaxtyping import Float32

from whisperstill.audio.files import load_audio
from whisperstill.units import SAMPLE_RATE

BITS_A_SECOND = 32_000
MOST_SECONDS = 60.0
"""A clip is cut here: what went wrong is heard by then."""

_BLOCK = SAMPLE_RATE


def clip(path: str, start: float, duration: float) -> str:
    """The address (`data:audio/mpeg;base64,…`) of a stretch, of `MOST_SECONDS` at most.

    Raises `AudioError` where the file is missing or has nothing there.
    """
    waveform = load_audio(path, start, min(duration, MOST_SECONDS) if duration > 0 else MOST_SECONDS)
    return "data:audio/mpeg;base64," + base64.b64encode(mp3(waveform)).decode("ascii")


def mp3(waveform: Float32[np.ndarray, "samples"]) -> bytes:
    """A waveform of 16 kHz as mp3."""
    written = io.BytesIO()
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    with av.open(written, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLE_RATE, layout="mono", bit_rate=BITS_A_SECOND)
        for first in range(0, len(samples), _BLOCK):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + _BLOCK], format="s16p", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return written.getvalue()
