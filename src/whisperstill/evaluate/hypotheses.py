"""What a model hears in the utterances of a corpus: short ones one per window, long ones cut at silences."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from whisperstill.audio.files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.errors import AudioError, SettingsError
from whisperstill.records import Skipped, Utterance
from whisperstill.units import WINDOW_SECONDS

Change: TypeAlias = Callable[[Utterance, np.ndarray], np.ndarray]
"""Of the sound of an utterance, 16 kHz samples."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Texts by the utterance's id."""

    texts: dict[str, str]
    tokens: int
    """Tokens that the decoder gave, end tokens not counted."""
    skipped: tuple[Skipped, ...]
    """Utterances whose audio cannot be read, or not to its end."""


def decode_utterances(
    recogniser: Recogniser,
    utterances: Sequence[Utterance],
    *,
    batch_size: int,
    advance: Callable[[float], None] = lambda seconds: None,
    encode: Callable[[Sequence[Utterance], Tensor], Tensor] | None = None,
    change: Change | None = None,
    options: DecodingOptions | None = None,
) -> Hypotheses:
    """Greedy hypotheses, of utterances up to 30 s without timestamps. `advance` is told the seconds of audio that are
    done; `encode` (default: the recogniser's own) gives the states of a batch; `change` is done to the waveform of each
    before it is heard. With `options` all are decoded as recordings are; else those over 30 s, without timestamps.

    Batches hold utterances of like length, longest first. Raises `SettingsError` for a language that the model does
    not know, and for a `change` of utterances over 30 s.
    """
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    tokens = 0
    short = [one for one in utterances if options is None and one.audio.duration <= WINDOW_SECONDS]
    short.sort(key=lambda one: -one.audio.duration)
    if change is not None and len(short) < len(utterances):
        raise SettingsError("the sound of recordings over 30 s cannot be changed: cut them, or leave the condition out")
    batches = [short[at : at + batch_size] for at in range(0, len(short), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        pending = [reader.submit(_load, batch, change) for batch in batches[:1]]
        for index, batch in enumerate(batches):
            loaded, waveforms, bad = pending.pop().result()
            if index + 1 < len(batches):
                pending.append(reader.submit(_load, batches[index + 1], change))
            skipped += bad
            if loaded:
                batch_waveforms = torch.from_numpy(waveforms)
                states = encode(loaded, batch_waveforms) if encode else recogniser.encode(batch_waveforms)
                heard = recogniser.decode(states, recogniser.languages(states, [one.language for one in loaded]))
                for utterance, one in zip(loaded, heard, strict=True):
                    texts[utterance.id] = one.text
                    tokens += len(one.decoded.tokens)
            advance(sum(one.audio.duration for one in batch))

    long = [one for one in utterances if options is not None or one.audio.duration > WINDOW_SECONDS]
    recordings = (Recording(u.audio.path, u.audio.start, u.audio.duration, u.language) for u in long)
    options = options or DecodingOptions(without_timestamps=True, batch_size=batch_size)
    results = transcribe_recordings(recogniser, recordings, options, advance)
    for utterance, (_, result) in zip(long, results, strict=True):
        if isinstance(result, AudioError) or result.broken:  # what is missing would count as deleted
            reason = result if isinstance(result, AudioError) else AudioError(result.broken)
            skipped.append(_skipped(utterance, reason))
            continue
        texts[utterance.id] = result.text
        tokens += sum(len(segment.tokens) for segment in result.segments)
    return Hypotheses(texts, tokens, tuple(skipped))


def _load(
    utterances: Sequence[Utterance], change: Change | None
) -> tuple[list[Utterance], Float32[np.ndarray, "batch samples"], list[Skipped]]:
    loaded: list[Utterance] = []
    waveforms, bad = [], []
    for one in utterances:
        try:
            sound = load_audio(one.audio.path, one.audio.start, one.audio.duration)
            waveforms.append(pad_or_trim(sound if change is None else change(one, sound)))
            loaded.append(one)
        except AudioError as error:
            bad.append(_skipped(one, error))
    return loaded, np.stack(waveforms) if waveforms else np.zeros((0, 0), np.float32), bad


def _skipped(utterance: Utterance, error: AudioError) -> Skipped:
    return Skipped(f"{utterance.corpus}/{utterance.id}", str(error))
