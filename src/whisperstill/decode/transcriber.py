"""`whisperstill.load(...)`: a model by name, and `transcribe` for any file or stream of any length.

A source is a path, a waveform (16 kHz mono: floats of full scale 1, or 16-bit integers or their bytes), or chunks of
one as a microphone gives them (`audio.streams.stream_chunks`, which also knows other rates and channels).
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from whisperstill.audio.streams import stream_chunks
from whisperstill.decode.longform.recordings import Recording, stream_recording, transcribe_recordings
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.options import NONE_EQUIVALENTS, NULLABLE_OPTIONS, DecodingOptions, parse_token_ids
from whisperstill.decode.output.transcript import FilteredSegment, Segment, Transcript
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype

DTYPES = ("auto", "float32", "bfloat16", "int8")
STREAM_NAME = "-"
"""What a source that is no file is called."""

Source = str | Path | np.ndarray | bytes | Iterable[bytes | np.ndarray]


class TranscriptionInfo:
    """What is known of a recording while its segments come."""

    def __init__(self, strategy: LongFormStrategy) -> None:
        self._strategy = strategy

    @property
    def language(self) -> str | None:
        """ISO 639-1 code; None while it is not yet detected: before the first segment."""
        return self._strategy.source.language.code if self._strategy.source.language else None

    @property
    def language_probability(self) -> float:
        """1 where the language was given."""
        return self._strategy.source.language.probability if self._strategy.source.language else 1.0

    @property
    def duration(self) -> float | None:
        """Seconds of audio; None while the end has not been read."""
        return self._strategy.source.reader.duration

    @property
    def options(self) -> DecodingOptions:
        """How it is decoded."""
        return self._strategy.source.context.options

    @property
    def filtered_segments(self) -> tuple[FilteredSegment, ...]:
        """What was not believed so far."""
        return tuple(self._strategy.transcript.filter.filtered_segments)


class Transcriber:
    """A loaded model; make it with `load`."""

    def __init__(self, model: WhisperModel) -> None:
        self.model = model

    def transcribe(self, source: Source, *, language: str | None = None, **options: Any) -> Transcript:
        """Transcribe an audio file, or a stream, of any length.

        `language` is a code or an English name; None detects it. All fields of `DecodingOptions` are options:
        `word_timestamps=True`, `initial_prompt="..."`, `long_form="sequential"`, `temperature=0` ... Audio that breaks
        off gives the transcript of what there is of it (`Transcript.read_error`). Raises `AudioError` when nothing of
        it can be read, `SettingsError` for a language, a task or an option that is not known.
        """
        recording = make_recording(source, language)
        [(_, result)] = transcribe_recordings(self.model, [recording], build_options(options))
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_many(
        self, sources: Iterable[Source], *, language: str | None = None, **options: Any
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Transcribe files together, batched over files: `(path, transcript)` in order, each when it is finished.

        Options as in `transcribe`. A file that cannot be read gives its `AudioError` in place of a transcript; the
        others go on. The path of a source that is none is `-`.
        """
        recordings = (make_recording(source, language) for source in sources)
        for recording, result in transcribe_recordings(self.model, recordings, build_options(options)):
            yield Path(recording.path), result

    def stream(
        self, source: Source, *, language: str | None = None, **options: Any
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """The segments of a recording, each as soon as nothing can come before it, and what is known of the whole.

        Options as in `transcribe`; the segments are those of its transcript. Nothing is heard before the first segment
        is asked for. Chunks that come as they are spoken are heard window by window (`batch_size` 1 unless given), and
        a short `chunk_length` makes windows that do not wait for 30 s of them. Raises `AudioError` when the beginning
        cannot be read, `SettingsError` as `transcribe`; an `AudioError` later on is raised behind the segments that
        were heard before.
        """
        recording = make_recording(source, language)
        if recording.blocks is not None and not isinstance(source, np.ndarray | bytes):
            options = {"batch_size": 1, **options}
        segments, strategy = stream_recording(self.model, recording, build_options(options))
        return segments, TranscriptionInfo(strategy)


def make_recording(source: Source, language: str | None = None) -> Recording:
    """The recording that a source is."""
    if isinstance(source, str | Path):
        return Recording(str(source), language=language)
    chunks = [source] if isinstance(source, np.ndarray | bytes) else source
    return Recording(STREAM_NAME, language=language, blocks=stream_chunks(chunks, name="the stream"))


def build_options(values: dict[str, Any]) -> DecodingOptions:
    """Options by name, as people write them for openai/whisper: a single temperature or token will do for a tuple,
    ids of tokens for their text (`"-1,50364"`), a list of ids for `initial_prompt`, and None says what it says there:
    of what has none, the default.

    Raises `SettingsError` for an unknown one, and for a value that cannot be.
    """
    defaults_by_name = {field.name: field.default for field in fields(DecodingOptions)}
    unknown = [name for name in values if name not in defaults_by_name]
    if unknown:
        raise SettingsError(f"{unknown[0]} is no option of transcribe; there are {', '.join(sorted(defaults_by_name))}")
    none_means = defaults_by_name | NONE_EQUIVALENTS
    values = {
        name: none_means[name] if value is None and name not in NULLABLE_OPTIONS else value
        for name, value in values.items()
    }
    prompt = values.get("initial_prompt")
    if not isinstance(prompt, str | None):
        if not isinstance(prompt, Iterable):
            raise SettingsError(f"initial_prompt must be text or ids of tokens, got {prompt!r}")
        values["initial_prompt"] = tuple(prompt)
    if isinstance(values.get("suppress_tokens"), str):
        values["suppress_tokens"] = parse_token_ids(values["suppress_tokens"])
    for name in ("temperature", "suppress_tokens"):
        if name in values:
            value = values[name]
            values[name] = tuple(value) if isinstance(value, Iterable) else (value,)
    return DecodingOptions(**values)


def load(
    name_or_dir: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    assistant: str | Path | None = None,
    trim_padding: bool = False,
) -> Transcriber:
    """A model by name (`tiny.en`, `owner/name`) or directory, ready to transcribe.

    `device` is `auto`, `cpu` or `cuda`; `dtype` is `auto`, `float32`, `bfloat16` or, on a CPU, `int8`. An `assistant`,
    a smaller model with the same vocabulary, proposes and the model verifies: what is heard is the same, and the less
    time it takes the more a token costs the model. With `trim_padding` the encoder computes no more of a window than
    holds sound: much faster for short files, and nearly the same (see `model.trimmed_encoder`). Raises `NotFoundError`,
    `CheckpointError` or `SettingsError`.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype!r}")
    resolved_device = choose_device(device)
    return Transcriber(
        WhisperModel(
            load_checkpoint(name_or_dir),
            device=resolved_device,
            dtype=None if dtype == "int8" else choose_dtype(dtype, resolved_device),
            int8=dtype == "int8",
            assistant=None if assistant is None else load_checkpoint(assistant),
            trim_padding=trim_padding,
        )
    )
