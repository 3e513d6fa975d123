"""The sound of a window: what the encoder is given."""

import numpy as np
from jaxtyping import Float32

from whisperstill.audio import load_audio
from whisperstill.errors import AudioError, CorpusError
from whisperstill.records import Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES


def load_window_waveform(window: Window) -> Float32[np.ndarray, "480000"]:
    """Its utterances one after the other, zero-padded to 30 s: float32, 16 kHz.

    Every utterance takes round(duration x 16000) samples, cut or padded, so that `window.offsets` hold even where a
    decoder gives some samples more or less than stated. Raises `AudioError` that names the utterance that cannot be
    decoded, and `CorpusError` when the utterances do not fit.
    """
    waveform = np.zeros(WINDOW_SAMPLES, np.float32)
    offset = 0
    for utterance in window.utterances:
        clip = load_utterance_waveform(utterance)
        if offset + len(clip) > WINDOW_SAMPLES:
            raise CorpusError(f"window {window.id} must hold at most {WINDOW_SAMPLES} samples, got more: pack it anew")
        waveform[offset : offset + len(clip)] = clip
        offset += len(clip)
    return waveform


def load_utterance_waveform(utterance: Utterance) -> Float32[np.ndarray, "samples"]:
    """The sound of one utterance, round(duration x 16000) samples. Raises `AudioError` that names it."""
    audio = utterance.audio
    num_samples = round(audio.duration * SAMPLE_RATE)
    try:
        clip = load_audio(audio.path, audio.start, audio.duration)[:num_samples]
    except AudioError as error:
        raise AudioError(f"{utterance.id}: {error}") from error
    return np.pad(clip, (0, num_samples - len(clip)))
