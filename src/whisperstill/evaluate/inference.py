"""What a model hears in the utterances of a corpus: short ones one per window, long ones cut at silences."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform.recordings import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError, SettingsError
from whisperstill.records import Skipped, Utterance
from whisperstill.units import WINDOW_SECONDS

AudioTransform: TypeAlias = Callable[[Utterance, np.ndarray], np.ndarray]
"""Of the sound of an utterance, 16 kHz samples."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Texts by the utterance's id."""

    texts: dict[str, str]
    num_tokens: int
    """Tokens that the decoder gave, end tokens not counted."""
    skipped: tuple[Skipped, ...]
    """Utterances whose audio cannot be read, or not to its end."""


def decode_utterances(
    model: WhisperModel,
    utterances: Sequence[Utterance],
    *,
    batch_size: int,
    advance: Callable[[float], None] = lambda seconds: None,
    encode: Callable[[Sequence[Utterance], Tensor], Tensor] | None = None,
    audio_transform: AudioTransform | None = None,
    options: DecodingOptions | None = None,
) -> Hypotheses:
    """Greedy hypotheses, of utterances up to 30 s without timestamps. `advance` is told the seconds of audio that are
    done; `encode` (default: the model's own) gives the states of a batch; `audio_transform` is done to the waveform
    of each before it is heard. With `options` all are decoded as recordings are; else those over 30 s, without
    timestamps.

    Batches hold utterances of like length, longest first. Raises `SettingsError` for a language that the model does
    not know, and for an `audio_transform` of utterances over 30 s.
    """
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    num_tokens = 0
    short_utterances = [
        utterance for utterance in utterances if options is None and utterance.audio.duration <= WINDOW_SECONDS
    ]
    short_utterances.sort(key=lambda utterance: -utterance.audio.duration)
    if audio_transform is not None and len(short_utterances) < len(utterances):
        raise SettingsError("the sound of recordings over 30 s cannot be changed: cut them, or leave the condition out")
    batches = [short_utterances[start : start + batch_size] for start in range(0, len(short_utterances), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        pending = [reader.submit(_load_batch, batch, audio_transform) for batch in batches[:1]]
        for index, batch in enumerate(batches):
            loaded, waveforms, unreadable = pending.pop().result()
            if index + 1 < len(batches):
                pending.append(reader.submit(_load_batch, batches[index + 1], audio_transform))
            skipped += unreadable
            if loaded:
                batch_waveforms = torch.from_numpy(waveforms)
                encoder_states = encode(loaded, batch_waveforms) if encode else model.encode(batch_waveforms)
                transcripts = model.decode(
                    encoder_states,
                    model.resolve_languages(encoder_states, [utterance.language for utterance in loaded]),
                )
                for utterance, transcript in zip(loaded, transcripts, strict=True):
                    texts[utterance.id] = transcript.text
                    num_tokens += len(transcript.result.tokens)
            advance(sum(utterance.audio.duration for utterance in batch))

    long_utterances = [
        utterance for utterance in utterances if options is not None or utterance.audio.duration > WINDOW_SECONDS
    ]
    recordings = (Recording(u.audio.path, u.audio.start, u.audio.duration, u.language) for u in long_utterances)
    options = options or DecodingOptions(without_timestamps=True, batch_size=batch_size)
    results = transcribe_recordings(model, recordings, options, advance)
    for utterance, (_, result) in zip(long_utterances, results, strict=True):
        if isinstance(result, AudioError) or result.read_error:  # what is missing would count as deleted
            error = result if isinstance(result, AudioError) else AudioError(result.read_error)
            skipped.append(_to_skipped(utterance, error))
            continue
        texts[utterance.id] = result.text
        num_tokens += sum(len(segment.tokens) for segment in result.segments)
    return Hypotheses(texts, num_tokens, tuple(skipped))


def _load_batch(
    utterances: Sequence[Utterance], audio_transform: AudioTransform | None
) -> tuple[list[Utterance], Float32[np.ndarray, "batch samples"], list[Skipped]]:
    loaded: list[Utterance] = []
    waveforms, unreadable = [], []
    for utterance in utterances:
        try:
            waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            waveforms.append(pad_or_trim(waveform if audio_transform is None else audio_transform(utterance, waveform)))
            loaded.append(utterance)
        except AudioError as error:
            unreadable.append(_to_skipped(utterance, error))
    return loaded, np.stack(waveforms) if waveforms else np.zeros((0, 0), np.float32), unreadable


def _to_skipped(utterance: Utterance, error: AudioError) -> Skipped:
    return Skipped(f"{utterance.corpus}/{utterance.id}", str(error))
