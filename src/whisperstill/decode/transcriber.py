"""Public API: `whisperstill.load(...)` loads a model, whose `transcribe` takes files and streams of any length.

A source is a path, a waveform (16 kHz mono; floats of full scale 1, 16-bit integers, or their bytes), or an iterable
of such chunks, as from a microphone. `audio.streams.stream_chunks` converts other sample rates and channels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from whisperstill.audio.streams import stream_chunks
from whisperstill.decode.longform.recordings import Recording, TranscriptionSession
from whisperstill.decode.longform.strategy import LongFormStrategy
from whisperstill.decode.options import NONE_EQUIVALENTS, NULLABLE_OPTIONS, DecodingOptions, parse_token_ids
from whisperstill.decode.output.transcript import FilteredSegment, Segment, Transcript
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype

DTYPES = ("auto", "float32", "bfloat16", "int8")
STREAM_NAME = "-"
"""Path of a source that is not a file."""

Source = str | Path | np.ndarray | bytes | Iterable[bytes | np.ndarray]
OptionValue = None | bool | int | float | str | Iterable[int] | Iterable[float]
"""Value of a decoding option, as `build_options` takes it."""


class TranscriptionInfo:
    """Properties of a recording while it is transcribed."""

    def __init__(self, strategy: LongFormStrategy) -> None:
        self._strategy = strategy

    @property
    def language(self) -> str | None:
        """ISO 639-1 code; None until it is detected, which is before the first segment."""
        return self._strategy.language.code if self._strategy.language else None

    @property
    def language_probability(self) -> float:
        """Probability of the detected language; 1 if the language was an argument."""
        return self._strategy.language.probability if self._strategy.language else 1.0

    @property
    def duration(self) -> float | None:
        """Seconds of audio; None until the end is read."""
        return self._strategy.reader.duration

    @property
    def options(self) -> DecodingOptions:
        return self._strategy.options

    @property
    def filtered_segments(self) -> tuple[FilteredSegment, ...]:
        """Segments removed so far, with the reason."""
        return tuple(self._strategy.filter.filtered_segments)


class Transcriber:
    """A model ready for transcription; see `load`."""

    def __init__(self, model: WhisperModel) -> None:
        self.model = model

    def transcribe(self, source: Source, *, language: str | None = None, **options: OptionValue) -> Transcript:
        """Transcript of an audio file or stream of any length.

        `language` is a code or an English name; None detects it. Options are the fields of `DecodingOptions`:
        `word_timestamps=True`, `initial_prompt="..."`, `long_form="sequential"`, `temperature=0` ... If the audio
        breaks off, the transcript covers the part before (`Transcript.read_error`). Raises `AudioError` if no audio
        can be read, and `SettingsError` for an unknown language, task or option.
        """
        recording = make_recording(source, language)
        [(_, result)] = TranscriptionSession(self.model, build_options(options)).transcribe([recording])
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_many(
        self, sources: Iterable[Source], *, language: str | None = None, **options: OptionValue
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Transcripts of several sources, batched over sources: `(path, transcript)` pairs in order, as they finish.

        Options as in `transcribe`. For a file that cannot be read, the pair holds its `AudioError`. The path of a
        source that is not a file is `-`.
        """
        recordings = (make_recording(source, language) for source in sources)
        for recording, result in TranscriptionSession(self.model, build_options(options)).transcribe(recordings):
            yield Path(recording.path), result

    def stream(
        self, source: Source, *, language: str | None = None, **options: OptionValue
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """Segments of a recording, each as soon as it is final, and information on the recording.

        Options as in `transcribe`, and so are the segments. Decoding starts when the first segment is requested.
        Chunks are decoded window by window (`batch_size` is 1 by default); with a short `chunk_length`, windows need
        less than 30 s of audio. Raises `AudioError` if the beginning cannot be read, and `SettingsError` as
        `transcribe`. A later `AudioError` is raised after the segments before it.
        """
        recording = make_recording(source, language)
        if recording.blocks is not None and not isinstance(source, np.ndarray | bytes):
            options = {"batch_size": 1, **options}
        segments, strategy = TranscriptionSession(self.model, build_options(options)).stream(recording)
        return segments, TranscriptionInfo(strategy)


def make_recording(source: Source, language: str | None = None) -> Recording:
    """`Recording` of a source."""
    if isinstance(source, str | Path):
        return Recording(str(source), language=language)
    chunks = [source] if isinstance(source, np.ndarray | bytes) else source
    return Recording(STREAM_NAME, language=language, blocks=stream_chunks(chunks, name="the stream"))


def build_options(values: Mapping[str, OptionValue]) -> DecodingOptions:
    """`DecodingOptions` from keyword arguments in openai/whisper's forms.

    A single temperature or token stands for a tuple, text for token ids (`"-1,50364"`), and a list of ids for
    `initial_prompt`. None has openai/whisper's meaning, else it stands for the default. Raises `SettingsError` for
    unknown options and invalid values.
    """
    defaults_by_name = {field.name: field.default for field in fields(DecodingOptions)}
    unknown = [name for name in values if name not in defaults_by_name]
    if unknown:
        raise SettingsError(f"expected one of {', '.join(sorted(defaults_by_name))}, got option {unknown[0]}")
    none_means = defaults_by_name | NONE_EQUIVALENTS
    options: dict[str, Any] = {
        name: none_means[name] if value is None and name not in NULLABLE_OPTIONS else value
        for name, value in values.items()
    }
    prompt = options.get("initial_prompt")
    if not isinstance(prompt, str | None):
        if not isinstance(prompt, Iterable):
            raise SettingsError(f"initial_prompt must be text or token ids, got {prompt!r}")
        options["initial_prompt"] = tuple(prompt)
    if isinstance(options.get("suppress_tokens"), str):
        options["suppress_tokens"] = parse_token_ids(options["suppress_tokens"])
    for name in {"temperature", "suppress_tokens"} & options.keys():
        value = options[name]
        options[name] = tuple(value) if isinstance(value, Iterable) else (value,)
    return DecodingOptions(**options)


def load(
    name_or_dir: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    assistant: str | Path | None = None,
    trim_padding: bool = False,
) -> Transcriber:
    """Load a model for transcription, by name (`tiny.en`, `owner/name`) or directory.

    `device` is `auto`, `cpu` or `cuda`; `dtype` is `auto`, `float32`, `bfloat16` or, on a CPU, `int8`. `assistant` is
    a smaller model with the same vocabulary for speculative decoding: the transcripts are the same, and large models
    decode faster. `trim_padding` skips the silence at the end of a window in the encoder: much faster for short files,
    with nearly the same result (see `model.trimmed_encoder`). Raises `NotFoundError`, `CheckpointError` or
    `SettingsError`.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype!r}")
    device = choose_device(device)
    model = WhisperModel(
        load_checkpoint(name_or_dir),
        device=device,
        dtype=None if dtype == "int8" else choose_dtype(dtype, device),
        int8=dtype == "int8",
        assistant=None if assistant is None else load_checkpoint(assistant),
        trim_padding=trim_padding,
    )
    return Transcriber(model)
