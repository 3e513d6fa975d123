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
from whisperstill.decode.longform import Recording, stream_recording, transcribe_recordings
from whisperstill.decode.options import MAY_BE_NONE, NONE_IS, DecodingOptions, token_ids
from whisperstill.decode.plans import Plan
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.transcript import Segment, Suppressed, Transcript
from whisperstill.errors import AudioError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype

DTYPES = ("auto", "fp32", "bf16", "int8")
STREAM = "-"
"""What a source that is no file is called."""

Source = str | Path | np.ndarray | bytes | Iterable[bytes | np.ndarray]


class TranscriptionInfo:
    """What is known of a recording while its segments come."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def language(self) -> str | None:
        """ISO 639-1 code; None while it is not yet detected: before the first segment."""
        return self._plan.spoken.code

    @property
    def language_probability(self) -> float:
        """1 where the language was given."""
        return self._plan.spoken.probability

    @property
    def duration(self) -> float | None:
        """Seconds of audio; None while the end has not been read."""
        return self._plan.reader.duration

    @property
    def options(self) -> DecodingOptions:
        """How it is decoded."""
        return self._plan.setting.options

    @property
    def suppressed(self) -> tuple[Suppressed, ...]:
        """What was not believed so far."""
        return tuple(self._plan.suppressed)


class Transcriber:
    """A loaded model; make it with `load`."""

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser

    def transcribe(self, source: Source, *, language: str | None = None, **options: Any) -> Transcript:
        """Transcribe an audio file, or a stream, of any length.

        `language` is a code or an English name; None detects it. All fields of `DecodingOptions` are options:
        `word_timestamps=True`, `initial_prompt="..."`, `strategy="sequential"`, `temperature=0` ... Audio that
        breaks off gives the transcript of what there is of it (`Transcript.broken`). Raises `AudioError` when nothing
        of it can be read, `SettingsError` for a language, a task or an option that is not known.
        """
        recording = recording_of(source, language)
        [(_, result)] = transcribe_recordings(self.recogniser, [recording], options_of(options))
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
        recordings = (recording_of(source, language) for source in sources)
        for recording, result in transcribe_recordings(self.recogniser, recordings, options_of(options)):
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
        recording = recording_of(source, language)
        if recording.blocks is not None and not isinstance(source, np.ndarray | bytes):
            options = {"batch_size": 1, **options}
        segments, plan = stream_recording(self.recogniser, recording, options_of(options))
        return segments, TranscriptionInfo(plan)


def recording_of(source: Source, language: str | None = None) -> Recording:
    """The recording that a source is."""
    if isinstance(source, str | Path):
        return Recording(str(source), language=language)
    chunks = [source] if isinstance(source, np.ndarray | bytes) else source
    return Recording(STREAM, language=language, blocks=stream_chunks(chunks, name="the stream"))


def options_of(given: dict[str, Any]) -> DecodingOptions:
    """Options by name, as people write them for openai/whisper: a single temperature or token will do for a tuple,
    ids of tokens for their text (`"-1,50364"`), a list of ids for `initial_prompt`, and None says what it says there:
    of what has none, the default.

    Raises `SettingsError` for an unknown one, and for a value that cannot be.
    """
    known = {field.name: field.default for field in fields(DecodingOptions)}
    wrong = [name for name in given if name not in known]
    if wrong:
        raise SettingsError(f"{wrong[0]} is no option of transcribe; there are {', '.join(sorted(known))}")
    defaults = known | NONE_IS
    given = {
        name: defaults[name] if value is None and name not in MAY_BE_NONE else value for name, value in given.items()
    }
    prompt = given.get("initial_prompt")
    if not isinstance(prompt, str | None):
        if not isinstance(prompt, Iterable):
            raise SettingsError(f"initial_prompt must be text or ids of tokens, got {prompt!r}")
        given["initial_prompt"] = tuple(prompt)
    if isinstance(given.get("suppress_tokens"), str):
        given["suppress_tokens"] = token_ids(given["suppress_tokens"])
    for name in ("temperature", "suppress_tokens"):
        if name in given:
            value = given[name]
            given[name] = tuple(value) if isinstance(value, Iterable) else (value,)
    return DecodingOptions(**given)


def load(
    name_or_dir: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    assistant: str | Path | None = None,
    true_length: bool = False,
) -> Transcriber:
    """A model by name (`tiny.en`, `owner/name`) or directory, ready to transcribe.

    `device` is `auto`, `cpu` or `cuda`; `dtype` is `auto`, `fp32`, `bf16` or, on a CPU, `int8`. An `assistant`, a
    smaller model with the same vocabulary, proposes and the model verifies: what is heard is the same, and the less
    time it takes the more a token costs the model. With `true_length` the encoder computes no more of a window than
    holds sound: much faster for short files, and nearly the same (see `model.true_length`). Raises `NotFoundError`,
    `CheckpointError` or `SettingsError`.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"expected dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype!r}")
    chosen = choose_device(device)
    return Transcriber(
        Recogniser(
            load_checkpoint(name_or_dir),
            device=chosen,
            dtype=None if dtype == "int8" else choose_dtype(dtype, chosen),
            int8=dtype == "int8",
            assistant=None if assistant is None else load_checkpoint(assistant),
            true_length=true_length,
        )
    )
