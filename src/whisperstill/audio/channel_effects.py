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

from whisperstill.audio.audio_files import resample_blocks
from whisperstill.audio.containers import piped_blocks
from whisperstill.units import SAMPLE_RATE

TELEPHONE_RATE_HZ = 8000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
"""Hz, half the amplitude at both ends (ITU-T G.712 asks for a band like this)."""
BAND_FILTER_HALF_TAPS = 145
"""Samples at 8 kHz on both sides of the filter's middle: 60 dB less at 50 Hz beyond the band's ends."""
KAISER_BETA = 5.65
"""Kaiser's beta for 60 dB."""
PACKET_SAMPLES = SAMPLE_RATE // 50
"""20 ms, what most telephony sends at a time."""
BURST_RATIO = 2.0
"""How much longer runs of lost packets are than by chance alone (BurstR of ITU-T G.107, where chance is 1)."""
OPUS_BITRATE_RANGE_KBPS = (6, 256)
"""Lowest and highest kbit/s of one channel."""
MP3_BITRATES_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""What MPEG-2 layer III, the kind for 16 kHz, can have."""
PADDING_SAMPLES = SAMPLE_RATE // 10
"""Silence behind the sound while it is encoded: what is shorter than a codec's frame comes back to its end."""
FULL_SCALE_S16 = 32767.0


def telephone(waveform: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """A call over a fixed line: 300 to 3400 Hz, sampled at 8 kHz, mu-law (ITU-T G.711)."""
    return _apply_codec(waveform, TELEPHONE_RATE_HZ, "wav", "pcm_mulaw", band_pass=True)


def mu_law(waveform: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """Sampled at 8 kHz, 8 bits a sample by mu-law (ITU-T G.711): noise 35 to 40 dB below the sound, loud or quiet."""
    return _apply_codec(waveform, TELEPHONE_RATE_HZ, "wav", "pcm_mulaw")


def a_law(waveform: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """Sampled at 8 kHz, 8 bits a sample by A-law (ITU-T G.711)."""
    return _apply_codec(waveform, TELEPHONE_RATE_HZ, "wav", "pcm_alaw")


def opus(waveform: Float32[np.ndarray, "samples"], bitrate_kbps: float) -> Float32[np.ndarray, "samples"]:
    """Through Opus (RFC 6716) made for speech, 6 to 256 kbit/s on average."""
    return _apply_codec(waveform, SAMPLE_RATE, "ogg", "libopus", bitrate_kbps, {"application": "voip"})


def mp3(waveform: Float32[np.ndarray, "samples"], bitrate_kbps: float) -> Float32[np.ndarray, "samples"]:
    """Through MP3 by LAME at a constant rate, one of `MP3_KBITS`."""
    return _apply_codec(waveform, SAMPLE_RATE, "mp3", "libmp3lame", bitrate_kbps)


def lose_packets(
    waveform: Float32[np.ndarray, "samples"], percent: float, rng: np.random.Generator
) -> Float32[np.ndarray, "samples"]:
    """The sound with `percent` % of its packets of 20 ms silent, on average; nothing fills the gaps.

    Losses come in bursts, by Gilbert's model: a packet behind one that arrived is lost with probability
    share / `BURST_RATIO`, one behind a lost one arrives with probability (1 − share) / `BURST_RATIO`. Lost in the long
    run is the share, and a burst is `BURST_RATIO` / (1 − share) packets long on average.
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


def amplify(waveform: Float32[np.ndarray, "samples"], gain_db: float) -> Float32[np.ndarray, "samples"]:
    """Louder by so many dB (quieter where below 0). What exceeds full scale is not clipped."""
    amplified: np.ndarray = waveform * np.float32(10 ** (gain_db / 20))
    return amplified


def clip(waveform: Float32[np.ndarray, "samples"], below_peak_db: float) -> Float32[np.ndarray, "samples"]:
    """Cut off where it is less than `decibels` below its own peak; not made louder afterwards."""
    max_amplitude = np.abs(waveform).max(initial=0.0) * np.float32(10 ** (-below_peak_db / 20))
    clipped: np.ndarray = np.clip(waveform, -max_amplitude, max_amplitude)
    return clipped


def _apply_codec(
    waveform: Float32[np.ndarray, "samples"],
    sample_rate: int,
    container: str,
    codec: str,
    bitrate_kbps: float | None = None,
    options: dict[str, str] | None = None,
    band_pass: bool = False,
) -> Float32[np.ndarray, "samples"]:
    """The sound through an encoder at `rate` Hz and its decoder: as long, and in its place."""
    padded = np.pad(waveform, (0, PADDING_SAMPLES))
    if sample_rate != SAMPLE_RATE:
        padded = soxr.resample(padded, SAMPLE_RATE, sample_rate)
    if band_pass:
        padded = _band_pass(padded)
    scale = max(1.0, float(np.abs(padded).max()))
    encoded_file = _encode(
        np.round(padded * (FULL_SCALE_S16 / scale)).astype(np.int16),
        sample_rate,
        container,
        codec,
        bitrate_kbps,
        options,
    )
    decoded = np.concatenate([*resample_blocks(piped_blocks(encoded_file, codec)), np.zeros(len(waveform), np.float32)])
    result: np.ndarray = decoded[: len(waveform)] * np.float32(scale)
    return result


def _encode(
    samples: np.ndarray,
    sample_rate: int,
    container: str,
    codec: str,
    bitrate_kbps: float | None,
    options: dict[str, str] | None,
) -> io.BytesIO:
    """A file in memory, at its beginning."""
    encoded_file = io.BytesIO()
    with av.open(encoded_file, "w", format=container) as output_container:
        stream: Any = output_container.add_stream(codec, rate=sample_rate, layout="mono", options=options or {})
        if bitrate_kbps is not None:
            stream.bit_rate = round(bitrate_kbps * 1000)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, 0
        output_container.mux(stream.encode(frame))
        output_container.mux(stream.encode(None))
    encoded_file.seek(0)
    return encoded_file


def _band_pass(waveform: Float32[np.ndarray, "samples"]) -> Float32[np.ndarray, "samples"]:
    """The telephone band of a sound at 8 kHz, without delay."""
    filtered: np.ndarray = np.convolve(waveform, _band_pass_taps())[
        BAND_FILTER_HALF_TAPS : BAND_FILTER_HALF_TAPS + len(waveform)
    ]
    return filtered.astype(np.float32)


def _band_pass_taps() -> Float64[np.ndarray, "taps"]:
    """Windowed sinc: the low-pass of the upper end less that of the lower."""
    sample_indices = np.arange(-BAND_FILTER_HALF_TAPS, BAND_FILTER_HALF_TAPS + 1)
    low, high = (2 * edge / TELEPHONE_RATE_HZ for edge in TELEPHONE_BAND_HZ)
    taps: np.ndarray = (high * np.sinc(high * sample_indices) - low * np.sinc(low * sample_indices)) * np.kaiser(
        len(sample_indices), KAISER_BETA
    )
    return taps
