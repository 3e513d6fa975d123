"""Channel effects: narrow band, codecs, lost packets, gain, clipping.

Codecs are FFmpeg's (PyAV). Audio is encoded to a container in memory and decoded again, because the container states
what the codec does not: the encoder's delay and the padding of the last frame. Words stay in place to a sample or two.

Codecs hold 16 bits and clip beyond full scale. A waveform that exceeds it (as a mixture with noise may) is scaled down
for the codec and up again after it.
"""

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import soxr

from whisperstill.audio.audio_files import resample_blocks
from whisperstill.audio.containers import piped_blocks
from whisperstill.audio.levels import Waveform
from whisperstill.units import SAMPLE_RATE

Transform = Callable[[Waveform, float, np.random.Generator], Waveform]
"""Changes a waveform by a level of its kind (dB, kbit/s, %)."""

TELEPHONE_RATE_HZ = 8000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
"""Hz, at half amplitude (a band like that of ITU-T G.712)."""
BAND_FILTER_HALF_TAPS = 145
"""Taps on each side of the filter's centre: attenuation of 60 dB at 50 Hz beyond the band edges."""
KAISER_BETA = 5.65
"""For 60 dB."""
PACKET_SAMPLES = SAMPLE_RATE // 50
"""20 ms, the packet length of most telephony."""
BURST_RATIO = 2.0
"""Length of runs of lost packets relative to independent losses (BurstR of ITU-T G.107)."""
OPUS_BITRATE_RANGE_KBPS = (6, 256)
"""Lowest and highest bit rate of one channel."""
MP3_BITRATES_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Bit rates of MPEG-2 layer III, the version for 16 kHz."""
PADDING_SAMPLES = SAMPLE_RATE // 10
"""Silence appended while encoding, so that audio shorter than a codec frame is decoded to its end."""
FULL_SCALE_S16 = 32767.0


def codec(container: str, name: str, sample_rate: int = SAMPLE_RATE, band_pass: bool = False) -> Transform:
    """Transform that encodes at a bit rate in kbit/s (0: the codec has only one) and decodes: same length, words in
    place. `band_pass` limits the band to `TELEPHONE_BAND_HZ` first; Opus runs in its speech mode."""

    def transform(waveform: Waveform, bitrate_kbps: float, _: np.random.Generator) -> Waveform:
        padded = np.pad(waveform, (0, PADDING_SAMPLES))
        if sample_rate != SAMPLE_RATE:
            padded = soxr.resample(padded, SAMPLE_RATE, sample_rate)
        if band_pass:
            padded = _band_pass(padded)
        scale = max(1.0, float(np.abs(padded).max()))
        samples = np.round(padded * (FULL_SCALE_S16 / scale)).astype(np.int16)
        encoded_file = io.BytesIO()
        with av.open(encoded_file, "w", format=container) as output_container:
            options = {"application": "voip"} if name == "libopus" else {}
            stream: Any = output_container.add_stream(name, rate=sample_rate, layout="mono", options=options)
            if bitrate_kbps:
                stream.bit_rate = round(bitrate_kbps * 1000)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = sample_rate, 0
            output_container.mux(stream.encode(frame))
            output_container.mux(stream.encode(None))
        encoded_file.seek(0)
        decoded = [*resample_blocks(piped_blocks(encoded_file, name)), np.zeros(len(waveform), np.float32)]
        result: np.ndarray = np.concatenate(decoded)[: len(waveform)] * np.float32(scale)
        return result

    return transform


def lose_packets(waveform: Waveform, percent: float, rng: np.random.Generator) -> Waveform:
    """The waveform with on average `percent` % of its 20 ms packets replaced by silence, without concealment.

    Losses come in bursts (Gilbert's model): with loss rate p, a packet after a received one is lost with probability
    p / `BURST_RATIO`, one after a lost one is received with probability (1 - p) / `BURST_RATIO`. The mean burst is
    `BURST_RATIO` / (1 - p) packets long.
    """
    loss_rate, waveform = percent / 100, waveform.copy()
    draws = rng.random(len(waveform) // PACKET_SAMPLES + 1)
    is_lost = bool(draws[0] < loss_rate)
    for packet, draw in enumerate(draws):
        if packet:
            is_lost = bool(draw >= (1 - loss_rate) / BURST_RATIO) if is_lost else bool(draw < loss_rate / BURST_RATIO)
        if is_lost:
            waveform[packet * PACKET_SAMPLES : (packet + 1) * PACKET_SAMPLES] = 0.0
    return waveform


def amplify(waveform: Waveform, gain_db: float) -> Waveform:
    """Gain in dB, without clipping."""
    amplified: np.ndarray = waveform * np.float32(10 ** (gain_db / 20))
    return amplified


def clip(waveform: Waveform, below_peak_db: float) -> Waveform:
    """Clipped at `below_peak_db` below the peak, without a gain afterwards."""
    max_amplitude = np.abs(waveform).max(initial=0.0) * np.float32(10 ** (-below_peak_db / 20))
    clipped: np.ndarray = np.clip(waveform, -max_amplitude, max_amplitude)
    return clipped


def _band_pass(waveform: Waveform) -> Waveform:
    """Filtered by a windowed sinc: the low-pass of the upper edge minus that of the lower."""
    indices = np.arange(-BAND_FILTER_HALF_TAPS, BAND_FILTER_HALF_TAPS + 1)
    low, high = (2 * edge / TELEPHONE_RATE_HZ for edge in TELEPHONE_BAND_HZ)
    taps = (high * np.sinc(high * indices) - low * np.sinc(low * indices)) * np.kaiser(len(indices), KAISER_BETA)
    filtered: np.ndarray = np.convolve(waveform, taps)[BAND_FILTER_HALF_TAPS:][: len(waveform)]
    return filtered.astype(np.float32)
