"""Waveforms of utterances and windows, decoded in a background thread while the network runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from whisperstill.audio.audio_files import load_audio
from whisperstill.errors import AudioError, CorpusError
from whisperstill.records import Skipped, Utterance, Window
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES

Waveform = npt.NDArray[np.float32]
"""Samples of one utterance: mono, 16 kHz, full scale 1."""
AudioTransform: TypeAlias = Callable[[Utterance, Waveform], Waveform]
"""Corruption of an utterance's waveform."""
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def load_utterance_waveform(utterance: Utterance) -> Float32[np.ndarray, "samples"]:
    """Waveform of one utterance, exactly round(duration x 16000) samples. Raises `AudioError` that names it."""
    try:
        return _fit_duration(utterance, _load(utterance))
    except AudioError as error:
        raise AudioError(f"{utterance.id}: {error}") from error


def load_window_waveform(window: Window) -> Float32[np.ndarray, "480000"]:
    """Waveform of a window: its utterances one after another, zero-padded to 30 s (float32, 16 kHz).

    Raises `AudioError` that names the utterance that cannot be decoded, `CorpusError` when the utterances do not fit.
    """
    return join_waveforms(window, [load_utterance_waveform(utterance) for utterance in window.utterances])


def load_waveforms(
    utterances: Iterable[Utterance], transform: AudioTransform | None = None
) -> tuple[list[Utterance], list[Waveform], list[Skipped]]:
    """Waveforms of all utterances whose audio can be decoded: `(readable, waveforms, skipped)`.

    `waveforms[i]` belongs to `readable[i]` and is as long as the decoder returns it, which may differ from the stated
    duration by a few samples. `skipped` names every other utterance (`corpus/id`) and its decoding error.
    """
    readable: list[Utterance] = []
    waveforms: list[Waveform] = []
    skipped: list[Skipped] = []
    for utterance in utterances:
        try:
            waveform = _load(utterance)
            waveforms.append(waveform if transform is None else transform(utterance, waveform))
            readable.append(utterance)
        except AudioError as error:  # a transform may read other files
            skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
    return readable, waveforms, skipped


def join_waveforms(window: Window, waveforms: Sequence[Waveform]) -> Float32[np.ndarray, "480000"]:
    """Waveform of a window from those of its utterances.

    Each utterance is cut or zero-padded to round(duration x 16000) samples, so its offset in the window follows from
    the stated durations. Raises `CorpusError` when the utterances do not fit into 30 s.
    """
    joined = np.zeros(WINDOW_SAMPLES, np.float32)
    offset = 0
    for utterance, waveform in zip(window.utterances, waveforms, strict=True):
        clip = _fit_duration(utterance, waveform)
        if offset + len(clip) > WINDOW_SAMPLES:
            raise CorpusError(f"expected at most {WINDOW_SAMPLES} samples in window {window.id}, got more: pack again")
        joined[offset : offset + len(clip)] = clip
        offset += len(clip)
    return joined


def read_ahead(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[Loaded]:
    """Results of `load` for all items, in order; the next item is loaded while the caller uses the current one."""
    with ThreadPoolExecutor(1) as reader:
        current: Future[Loaded] | None = None
        for item in items:
            following = reader.submit(load, item)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()


def _load(utterance: Utterance) -> Waveform:
    return load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)


def _fit_duration(utterance: Utterance, waveform: Waveform) -> Waveform:
    num_samples = round(utterance.audio.duration * SAMPLE_RATE)
    clip = waveform[:num_samples]
    return np.pad(clip, (0, num_samples - len(clip)))
