"""`whisperstill.load(...)`: a model by name, and `transcribe` for any file of any length."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from whisperstill.decode.longform import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.transcript import Transcript
from whisperstill.errors import AudioError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype

DTYPES = ("auto", "fp32", "bf16", "int8")


class Transcriber:
    """A loaded model; make it with `load`."""

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser

    def transcribe(self, path: str | Path, *, language: str | None = None, **options: Any) -> Transcript:
        """Transcribe an audio file of any length.

        `language` is a code or an English name; None detects it. All fields of `DecodingOptions` are options:
        `word_timestamps=True`, `initial_prompt="..."`, `strategy="sequential"`, `temperature=0` ... Raises
        `AudioError` when the file cannot be read, `SettingsError` for a language, a task or an option that is not
        known.
        """
        recording = Recording(str(path), language=language)
        [(_, result)] = transcribe_recordings(self.recogniser, [recording], options_of(options))
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_many(
        self, paths: Iterable[str | Path], *, language: str | None = None, **options: Any
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Transcribe files together, batched over files: `(path, transcript)` in order, each when it is finished.

        Options as in `transcribe`. A file that cannot be read gives its `AudioError` in place of a transcript; the
        others go on.
        """
        recordings = (Recording(str(path), language=language) for path in paths)
        for recording, result in transcribe_recordings(self.recogniser, recordings, options_of(options)):
            yield Path(recording.path), result


def options_of(given: dict[str, Any]) -> DecodingOptions:
    """Options by name; a single temperature or token will do for a tuple. Raises `SettingsError` for an unknown one."""
    known = [field.name for field in fields(DecodingOptions)]
    wrong = [name for name in given if name not in known]
    if wrong:
        raise SettingsError(f"{wrong[0]} is no option of transcribe; there are {', '.join(sorted(known))}")
    for name in ("temperature", "suppress_tokens"):
        if name in given:
            value = given[name]
            given[name] = tuple(value) if isinstance(value, Iterable) else (value,)
    return DecodingOptions(**given)


def load(
    name_or_dir: str | Path, device: str = "auto", dtype: str = "auto", assistant: str | Path | None = None
) -> Transcriber:
    """A model by name (`tiny.en`, `owner/name`) or directory, ready to transcribe.

    `device` is `auto`, `cpu` or `cuda`; `dtype` is `auto`, `fp32`, `bf16` or, on a CPU, `int8`. An `assistant`, a
    smaller model with the same vocabulary, proposes and the model verifies: what is heard is the same, and the less
    time it takes the more a token costs the model. Raises `NotFoundError`, `CheckpointError` or `SettingsError`.
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
        )
    )
