"""What a line does to speech: a narrow band, a codec, lost packets, another level, clipping.

Codecs are FFmpeg's (PyAV). A sound is written to a file in memory and read back, for the container knows what the codec
alone does not say: how many samples the encoder was late, and how many the last frame has too many. The words stay
where they were, to a sample or two.

The trap: codecs hold 16 bits and clip what is beyond full scale. A sound that exceeds it (a mixture with noise may) is
brought down for the codec and up again behind it.
"""

import io
from typing import Any

import av
import numpy as np
import soxr
from jaxtyping import Float32, Float64

from whisperstill.audio.containers import piped_blocks
from whisperstill.audio.files import resampled
from whisperstill.units import SAMPLE_RATE

TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300.0, 3400.0)
"""Hz, half the amplitude at both ends (ITU-T G.712 asks for a band like this)."""
BAND_REACH = 145
"""Samples at 8 kHz on both sides of the filter's middle: 60 dB less at 50 Hz beyond the band's ends."""
BAND_SHAPE = 5.65
"""Kaiser's beta for 60 dB."""
PACKET_SAMPLES = SAMPLE_RATE // 50
"""20 ms, what most telephony sends at a time."""
BURST_RATIO = 2.0
"""How much longer runs of lost packets are than by chance alone (BurstR of ITU-T G.107, where chance is 1)."""
OPUS_KBITS = (6, 256)
"""Lowest and highest kbit/s of one channel."""
MP3_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""What MPEG-2 layer III, the kind for 16 kHz, can have."""
PADDING_SAMPLES = SAMPLE_RATE // 10
"""Silence behind the sound while it is encoded: what is shorter than a codec's frame comes back to its end."""
FULL_SCALE_S16 = 32767.0


def telephone(sound: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """A call over a fixed line: 300 to 3400 Hz, sampled at 8 kHz, mu-law (ITU-T G.711)."""
    return _coded(sound, TELEPHONE_RATE, "wav", "pcm_mulaw", band=True)


def mu_law(sound: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """Sampled at 8 kHz, 8 bits a sample by mu-law (ITU-T G.711): noise 35 to 40 dB below the sound, loud or quiet."""
    return _coded(sound, TELEPHONE_RATE, "wav", "pcm_mulaw")


def a_law(sound: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """Sampled at 8 kHz, 8 bits a sample by A-law (ITU-T G.711)."""
    return _coded(sound, TELEPHONE_RATE, "wav", "pcm_alaw")


def opus(sound: Float32[np.ndarray, "samples"], kbits: float) -> Float32[np.ndarray, "samples"]:
    """Through Opus (RFC 6716) made for speech, 6 to 256 kbit/s on average."""
    return _coded(sound, SAMPLE_RATE, "ogg", "libopus", kbits, {"application": "voip"})


def mp3(sound: Float32[np.ndarray, "samples"], kbits: float) -> Float32[np.ndarray, "samples"]:
    """Through MP3 by LAME at a constant rate, one of `MP3_KBITS`."""
    return _coded(sound, SAMPLE_RATE, "mp3", "libmp3lame", kbits)


def lose_packets(
    sound: Float32[np.ndarray, "samples"], percent: float, rng: np.random.Generator
) -> Float32[np.ndarray, "samples"]:
    """The sound with `percent` % of its packets of 20 ms silent, on average; nothing fills the gaps.

    Losses come in bursts, by Gilbert's model: a packet behind one that arrived is lost with probability
    share / `BURST_RATIO`, one behind a lost one arrives with probability (1 − share) / `BURST_RATIO`. Lost in the long
    run is the share, and a burst is `BURST_RATIO` / (1 − share) packets long on average.
    """
    share, sound = percent / 100, sound.copy()
    draws = rng.random(len(sound) // PACKET_SAMPLES + 1)
    lost = bool(draws[0] < share)
    for packet, draw in enumerate(draws):
        if packet:
            lost = bool(draw >= (1 - share) / BURST_RATIO) if lost else bool(draw < share / BURST_RATIO)
        if lost:
            sound[packet * PACKET_SAMPLES : (packet + 1) * PACKET_SAMPLES] = 0.0
    return sound


def amplify(sound: Float32[np.ndarray, "samples"], decibels: float) -> Float32[np.ndarray, "samples"]:
    """Louder by so many dB (quieter where below 0). What exceeds full scale is not clipped."""
    louder: np.ndarray = sound * np.float32(10 ** (decibels / 20))
    return louder


def clip(sound: Float32[np.ndarray, "samples"], decibels: float) -> Float32[np.ndarray, "samples"]:
    """Cut off where it is less than `decibels` below its own peak; not made louder afterwards."""
    most = np.abs(sound).max(initial=0.0) * np.float32(10 ** (-decibels / 20))
    clipped: np.ndarray = np.clip(sound, -most, most)
    return clipped


def _coded(
    sound: Float32[np.ndarray, "samples"],
    rate: int,
    container: str,
    codec: str,
    kbits: float | None = None,
    options: dict[str, str] | None = None,
    band: bool = False,
) -> Float32[np.ndarray, "samples"]:
    """The sound through an encoder at `rate` Hz and its decoder: as long, and in its place."""
    padded = np.pad(sound, (0, PADDING_SAMPLES))
    if rate != SAMPLE_RATE:
        padded = soxr.resample(padded, SAMPLE_RATE, rate)
    if band:
        padded = _within_band(padded)
    scale = max(1.0, float(np.abs(padded).max()))
    file = _written(
        np.round(padded * (FULL_SCALE_S16 / scale)).astype(np.int16), rate, container, codec, kbits, options
    )
    back = np.concatenate([*resampled(piped_blocks(file, codec)), np.zeros(len(sound), np.float32)])
    found: np.ndarray = back[: len(sound)] * np.float32(scale)
    return found


def _written(
    samples: np.ndarray, rate: int, container: str, codec: str, kbits: float | None, options: dict[str, str] | None
) -> io.BytesIO:
    """A file in memory, at its beginning."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=rate, layout="mono", options=options or {})
        if kbits is not None:
            stream.bit_rate = round(kbits * 1000)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    return file


def _within_band(sound: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """The telephone band of a sound at 8 kHz, without delay."""
    filtered: np.ndarray = np.convolve(sound, _band_filter())[BAND_REACH : BAND_REACH + len(sound)]
    return filtered.astype(np.float32)


def _band_filter() -> Float64[np.ndarray, "taps"]:
    """Windowed sinc: the low-pass of the upper end less that of the lower."""
    at = np.arange(-BAND_REACH, BAND_REACH + 1)
    low, high = (2 * edge / TELEPHONE_RATE for edge in TELEPHONE_BAND)
    taps: np.ndarray = (high * np.sinc(high * at) - low * np.sinc(low * at)) * np.kaiser(len(at), BAND_SHAPE)
    return taps
