"""Stretches of recordings, small enough to lie within a page: mono mp3 of 32 kbit/s as data addresses."""

import base64
import io

import av
import numpy as np
from jaxtyping import Float32

from whisperstill.audio.audio_files import load_audio
from whisperstill.units import SAMPLE_RATE

MP3_BIT_RATE_BPS = 32_000
MAX_CLIP_S = 60.0
"""A clip is cut here: what went wrong is heard by then."""

_BLOCK_SAMPLES = SAMPLE_RATE


def encode_audio_data_uri(path: str, start_s: float, duration_s: float) -> str:
    """The address (`data:audio/mpeg;base64,…`) of a stretch, of `MAX_CLIP_S` at most.

    Raises `AudioError` where the file is missing or has nothing there.
    """
    waveform = load_audio(path, start_s, min(duration_s, MAX_CLIP_S) if duration_s > 0 else MAX_CLIP_S)
    return "data:audio/mpeg;base64," + base64.b64encode(encode_mp3(waveform)).decode("ascii")


def encode_mp3(waveform: Float32[np.ndarray, "samples"]) -> bytes:
    """A waveform of 16 kHz as mp3."""
    buffer = io.BytesIO()
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLE_RATE, layout="mono", bit_rate=MP3_BIT_RATE_BPS)
        for offset in range(0, len(samples), _BLOCK_SAMPLES):
            frame = av.AudioFrame.from_ndarray(
                samples[None, offset : offset + _BLOCK_SAMPLES], format="s16p", layout="mono"
            )
            frame.sample_rate, frame.pts = SAMPLE_RATE, offset
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
