"""Recordings of any length, many at a time: cut at silences, batched over recordings, loaded piece by piece.

What is held in memory is two batches of pieces (one is loaded while the other is decoded) and the text so far,
however long the recordings are.
The language of a recording that nobody named is that of its first piece, as in openai/whisper.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float32

from whisperstill.audio.activity import cut_file
from whisperstill.audio.files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.recogniser import Recognised, Recogniser
from whisperstill.decode.transcript import Segment, Transcript, joined, segments_of, stopped_at
from whisperstill.errors import AudioError
from whisperstill.units import SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, or a stretch of it, to be transcribed."""

    path: str
    start: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None: to the end."""
    language: str | None = None
    """ISO 639-1 code; None: detect it."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How recordings are decoded."""

    task: str = "transcribe"
    without_timestamps: bool | None = None
    """None: with timestamps, unless the checkpoint is a student that never saw them."""
    initial_prompt: str | None = None
    """Text that stands before every window, as if it had been said: names, spelling, style."""
    batch_size: int = 8
    """Windows decoded at a time."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some seconds of a recording."""

    recording: int
    start: float
    """Seconds from the beginning of the file."""
    duration: float
    waveform: Float32[np.ndarray, "samples"]
    last: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    """A recording that cannot be read (any further)."""

    recording: int
    error: AudioError


@dataclass
class _Open:
    """What is known so far of the recording being put together."""

    language: str | None = None
    probability: float = 1.0
    segments: list[Segment] = field(default_factory=list)
    duration: float = 0.0


def transcribe_recordings(
    recogniser: Recogniser,
    recordings: Iterable[Recording],
    options: DecodingOptions | None = None,
    advance: Callable[[float], None] | None = None,
) -> Iterator[tuple[Recording, Transcript | AudioError]]:
    """Transcripts in the order of the recordings, each as soon as it is finished.

    A recording that cannot be read gives its `AudioError` in place of a transcript; the others go on. `advance` is
    told the seconds of audio of every batch that is done. Times in a transcript count from the recording's `start`.
    Raises `SettingsError` for a language or task that the network does not know.
    """
    options = options or DecodingOptions()
    known: list[Recording] = []
    parts: dict[int, _Open] = {}
    for batch in _ahead(_batches(_events(recordings, known), max(1, options.batch_size))):
        pieces = [event for event in batch if isinstance(event, _Piece)]
        found = iter(_hear_to_the_end(recogniser, pieces, known, parts, options))
        for event in batch:
            recording = known[event.recording]
            if isinstance(event, _Failed):
                parts.pop(event.recording, None)
                yield recording, event.error
                continue
            part = parts[event.recording]
            for piece, heard in next(found):
                _add(part, piece, heard, recording, recogniser, options)
            if event.last:
                del parts[event.recording]
                language, segments = part.language or "en", tuple(part.segments)
                text = joined(segments, language)
                yield recording, Transcript(text, segments, language, part.probability, part.duration)
        if advance:
            advance(sum(piece.duration for piece in pieces))


def with_timestamps(recogniser: Recogniser, options: DecodingOptions) -> bool:
    """Whether timestamps are decoded."""
    if options.without_timestamps is None:
        return not recogniser.without_timestamps
    return not options.without_timestamps


def _hear_to_the_end(
    recogniser: Recogniser,
    pieces: list[_Piece],
    known: list[Recording],
    parts: dict[int, _Open],
    options: DecodingOptions,
) -> list[list[tuple[_Piece, Recognised]]]:
    """For each piece what was heard in it, and in what was left of it (see `stopped_at`)."""
    results: list[list[tuple[_Piece, Recognised]]] = [[] for _ in pieces]
    todo = list(enumerate(pieces))
    while todo:
        heard = _hear(recogniser, [piece for _, piece in todo], known, parts, options)
        rest = []
        for (place, piece), one in zip(todo, heard, strict=True):
            results[place].append((piece, one))
            at = None
            if with_timestamps(recogniser, options):
                at = stopped_at(one, piece.duration, recogniser.vocabulary)
            if at is not None:
                waveform = piece.waveform[round(at * SAMPLE_RATE) :]
                left = replace(piece, start=piece.start + at, duration=len(waveform) / SAMPLE_RATE, waveform=waveform)
                rest.append((place, left))
        todo = rest
    return results


def _hear(
    recogniser: Recogniser,
    pieces: list[_Piece],
    known: list[Recording],
    parts: dict[int, _Open],
    options: DecodingOptions,
) -> list[Recognised]:
    """Decode a batch; notes the language of recordings that begin in it."""
    waveforms = torch.from_numpy(np.stack([pad_or_trim(piece.waveform) for piece in pieces]))
    states = recogniser.encode(waveforms)
    for piece in pieces:
        if piece.recording not in parts:
            parts[piece.recording] = _Open(recogniser.known_language(known[piece.recording].language))
    for row, piece in enumerate(pieces):
        part = parts[piece.recording]
        if part.language is None:
            part.language, part.probability = recogniser.detect(states[row : row + 1])[0]
    return recogniser.decode(
        states,
        [parts[piece.recording].language or "en" for piece in pieces],
        task=options.task,
        timestamps=with_timestamps(recogniser, options),
        prompt=recogniser.prompt(options.initial_prompt),
        draft_states=recogniser.draft_states(waveforms, states),
    )


def _add(
    part: _Open,
    piece: _Piece,
    heard: Recognised,
    recording: Recording,
    recogniser: Recogniser,
    options: DecodingOptions,
) -> None:
    timestamps = with_timestamps(recogniser, options)
    start = piece.start - recording.start
    found = segments_of(heard, start, piece.duration, len(part.segments), recogniser.tokenizer, timestamps)
    part.segments += found
    part.duration = start + piece.duration


def _events(recordings: Iterable[Recording], known: list[Recording]) -> Iterator[_Piece | _Failed]:
    """Pieces with their waveforms, loaded when they are asked for; recordings are noted in `known` as they come."""
    for number, recording in enumerate(recordings):
        known.append(recording)
        try:
            cuts = _cuts(recording)
            for index, (start, duration) in enumerate(cuts):
                waveform = load_audio(recording.path, start, duration)[:WINDOW_SAMPLES]
                yield _Piece(number, start, len(waveform) / SAMPLE_RATE, waveform, index == len(cuts) - 1)
        except AudioError as error:
            yield _Failed(number, error)


def _cuts(recording: Recording) -> list[tuple[float, float]]:
    if recording.duration is not None and recording.duration <= WINDOW_SECONDS:
        return [(recording.start, recording.duration)]
    return cut_file(recording.path, WINDOW_SECONDS, recording.start, recording.duration)


def _batches(events: Iterable[_Piece | _Failed], size: int) -> Iterator[list[_Piece | _Failed]]:
    """Events in order, so that each batch holds up to `size` pieces."""
    batch: list[_Piece | _Failed] = []
    pieces = 0
    for event in events:
        batch.append(event)
        pieces += isinstance(event, _Piece)
        if pieces == size:
            yield batch
            batch, pieces = [], 0
    if batch:
        yield batch


def _ahead(batches: Iterator[list[_Piece | _Failed]]) -> Iterator[list[_Piece | _Failed]]:
    """The same batches; while one is worked on the next one is loaded."""
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = reader.submit(next, batches, None)
            yield batch
