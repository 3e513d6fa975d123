"""What a model hears in the utterances of a corpus: short ones one per window, long ones cut at silences."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from whisperstill.audio.files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.errors import AudioError
from whisperstill.records import Skipped, Utterance
from whisperstill.units import WINDOW_SECONDS


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
) -> Hypotheses:
    """Greedy hypotheses without timestamps. `advance` is told the seconds of audio that are done; `encode` (default:
    the recogniser's own) gives the states of a batch.

    Batches hold utterances of like length, longest first. Raises `SettingsError` for a language that the model does
    not know.
    """
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    tokens = 0
    short = [one for one in utterances if one.audio.duration <= WINDOW_SECONDS]
    short.sort(key=lambda one: -one.audio.duration)
    batches = [short[at : at + batch_size] for at in range(0, len(short), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        pending = [reader.submit(_load, batch) for batch in batches[:1]]
        for index, batch in enumerate(batches):
            loaded, waveforms, bad = pending.pop().result()
            if index + 1 < len(batches):
                pending.append(reader.submit(_load, batches[index + 1]))
            skipped += bad
            if loaded:
                batch_waveforms = torch.from_numpy(waveforms)
                states = encode(loaded, batch_waveforms) if encode else recogniser.encode(batch_waveforms)
                heard = recogniser.decode(states, recogniser.languages(states, [one.language for one in loaded]))
                for utterance, one in zip(loaded, heard, strict=True):
                    texts[utterance.id] = one.text
                    tokens += len(one.decoded.tokens)
            advance(sum(one.audio.duration for one in batch))

    long = [one for one in utterances if one.audio.duration > WINDOW_SECONDS]
    recordings = (Recording(u.audio.path, u.audio.start, u.audio.duration, u.language) for u in long)
    options = DecodingOptions(without_timestamps=True, batch_size=batch_size)
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
    utterances: Sequence[Utterance],
) -> tuple[list[Utterance], Float32[np.ndarray, "batch samples"], list[Skipped]]:
    loaded: list[Utterance] = []
    waveforms, bad = [], []
    for one in utterances:
        try:
            waveforms.append(pad_or_trim(load_audio(one.audio.path, one.audio.start, one.audio.duration)))
            loaded.append(one)
        except AudioError as error:
            bad.append(_skipped(one, error))
    return loaded, np.stack(waveforms) if waveforms else np.zeros((0, 0), np.float32), bad


def _skipped(utterance: Utterance, error: AudioError) -> Skipped:
    return Skipped(f"{utterance.corpus}/{utterance.id}", str(error))
