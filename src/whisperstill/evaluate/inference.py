"""Greedy hypotheses for the utterances of a dataset: one window each, or a long-form transcription."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.corpus.loading import Waveform, load_waveforms, read_ahead
from whisperstill.decode.longform.recordings import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError, SettingsError
from whisperstill.records import Skipped, Utterance
from whisperstill.units import WINDOW_SECONDS

AudioTransform: TypeAlias = Callable[[Utterance, Waveform], Waveform]
"""Corruption of an utterance's waveform (16 kHz)."""
Advance: TypeAlias = Callable[[float], None]
"""Receives the seconds of audio done."""
BatchEncoder: TypeAlias = Callable[[Sequence[Utterance], Tensor], tuple[Tensor, float]]
"""Utterances and their padded waveforms -> encoder states, seconds of encoding that a cache saved."""


@dataclass(frozen=True, slots=True)
class DecodeMode:
    """How a dataset is decoded."""

    decoding: str = "short"
    """`short`: one window per utterance up to 30 s; else a long-form strategy."""
    chunk_length: float = 0.0
    """Chunk length, seconds; 0: the strategy's default."""
    batch_size: int = 16

    @property
    def options(self) -> DecodingOptions | None:
        """Options of the long-form strategy."""
        if self.decoding == "short":
            return None
        return DecodingOptions(
            long_form=self.decoding, chunk_length=self.chunk_length or None, batch_size=self.batch_size
        )


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Texts by utterance id, and the time they took."""

    texts: dict[str, str]
    seconds: float
    """Wall-clock time, with the encoding that a cache saved."""
    skipped: tuple[Skipped, ...]
    """Utterances whose audio cannot be read to its end."""
    threads: int = field(default_factory=torch.get_num_threads)


def decode_utterances(
    model: WhisperModel,
    utterances: Sequence[Utterance],
    mode: DecodeMode,
    encode: BatchEncoder,
    audio_transform: AudioTransform | None,
    advance: Advance,
) -> Hypotheses:
    """Greedy hypotheses: utterances up to 30 s as one window without timestamps, longer ones as recordings without
    timestamps. With a long-form strategy, all are transcribed as recordings.

    `audio_transform` changes each waveform before encoding. Raises `SettingsError` for a language that the model does
    not have, and for an `audio_transform` with utterances over 30 s.
    """
    start_time = time.perf_counter()
    options, batch_size = mode.options, mode.batch_size
    # 1. Select the utterances that are one window each.
    short = [utterance for utterance in utterances if options is None and utterance.audio.duration <= WINDOW_SECONDS]
    long = [utterance for utterance in utterances if options is not None or utterance.audio.duration > WINDOW_SECONDS]
    if audio_transform is not None and long:
        raise SettingsError("expected utterances up to 30 s under a noise condition, got longer ones: leave them out")
    # 2. Decode them in batches.
    short.sort(key=lambda utterance: -utterance.audio.duration)  # similar lengths together
    batches = [short[start : start + batch_size] for start in range(0, len(short), batch_size)]
    loaded_batches = read_ahead(batches, lambda batch: load_transformed(batch, audio_transform))
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    saved_seconds = 0.0
    for batch, (readable, waveforms, unreadable) in zip(batches, loaded_batches, strict=True):
        skipped += unreadable
        if readable:
            encoder_states, batch_saved_seconds = encode(readable, stack_windows(waveforms))
            saved_seconds += batch_saved_seconds
            languages = model.resolve_languages(encoder_states, [utterance.language for utterance in readable])
            transcripts = model.decode(encoder_states, languages)
            texts |= {u.id: transcript.text for u, transcript in zip(readable, transcripts, strict=True)}
        advance(sum(utterance.audio.duration for utterance in batch))
    # 3. Transcribe the others as recordings.
    options = options or DecodingOptions(without_timestamps=True, batch_size=batch_size)
    recordings = (Recording(u.audio.path, u.audio.start, u.audio.duration, u.language) for u in long)
    for utterance, (_, result) in zip(long, transcribe_recordings(model, recordings, options, advance), strict=True):
        if isinstance(result, AudioError) or result.read_error:  # half a recording would count as deleted words
            error = result if isinstance(result, AudioError) else result.read_error
            skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
        else:
            texts[utterance.id] = result.text
    return Hypotheses(texts, time.perf_counter() - start_time + saved_seconds, tuple(skipped))


def load_transformed(
    utterances: Sequence[Utterance], audio_transform: AudioTransform | None
) -> tuple[list[Utterance], list[Waveform], list[Skipped]]:
    """Readable utterances, their waveforms after `audio_transform`, and the others with the reason."""
    readable, waveforms, skipped = load_waveforms(utterances)
    if audio_transform is None:
        return readable, waveforms, skipped
    transformed: list[tuple[Utterance, Waveform]] = []
    for utterance, waveform in zip(readable, waveforms, strict=True):
        try:
            transformed.append((utterance, audio_transform(utterance, waveform)))
        except AudioError as error:  # a transform may read other files
            skipped.append(Skipped(f"{utterance.corpus}/{utterance.id}", str(error)))
    return [utterance for utterance, _ in transformed], [waveform for _, waveform in transformed], skipped


def stack_windows(waveforms: Sequence[Waveform]) -> Float32[Tensor, "batch samples"]:
    """Waveforms padded or trimmed to 30 s, as one batch."""
    return torch.from_numpy(np.stack([pad_or_trim(waveform) for waveform in waveforms]))
