"""`whisperstill.load(...)`: a model by name, and `transcribe` for any file of any length."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from whisperstill.decode.longform import DecodingOptions, Recording, transcribe_recordings
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.transcript import Transcript
from whisperstill.errors import AudioError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype


class Transcriber:
    """A loaded model; make it with `load`."""

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser

    def transcribe(
        self,
        path: str | Path,
        *,
        language: str | None = None,
        task: str = "transcribe",
        without_timestamps: bool | None = None,
        initial_prompt: str | None = None,
        batch_size: int = 8,
    ) -> Transcript:
        """Transcribe an audio file of any length.

        `language` is a code or an English name; None detects it. `without_timestamps` None decodes timestamps unless
        the model is a student that never saw them. Raises `AudioError` when the file cannot be read, `SettingsError`
        for a language or task the model does not know.
        """
        options = DecodingOptions(task, without_timestamps, initial_prompt, batch_size)
        [(_, result)] = transcribe_recordings(self.recogniser, [Recording(str(path), language=language)], options)
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_many(
        self,
        paths: Iterable[str | Path],
        *,
        language: str | None = None,
        task: str = "transcribe",
        without_timestamps: bool | None = None,
        initial_prompt: str | None = None,
        batch_size: int = 8,
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Transcribe files together, batched over files: `(path, transcript)` in order, each when it is finished.

        A file that cannot be read gives its `AudioError` in place of a transcript; the others go on.
        """
        options = DecodingOptions(task, without_timestamps, initial_prompt, batch_size)
        recordings = (Recording(str(path), language=language) for path in paths)
        for recording, result in transcribe_recordings(self.recogniser, recordings, options):
            yield Path(recording.path), result


def load(
    name_or_dir: str | Path, device: str = "auto", dtype: str = "auto", assistant: str | Path | None = None
) -> Transcriber:
    """A model by name (`tiny.en`, `owner/name`) or directory, ready to transcribe.

    `device` is `auto`, `cpu` or `cuda`; `dtype` is `auto`, `fp32` or `bf16`. An `assistant`, a smaller model with the
    same vocabulary, proposes and the model verifies: what is heard is the same. It pays where a token costs the model
    many times what it costs the assistant. Raises `NotFoundError`, `CheckpointError` or `SettingsError`.
    """
    if dtype not in ("auto", "fp32", "bf16"):
        raise SettingsError(f"expected dtype auto, fp32 or bf16, got {dtype!r}")
    chosen = choose_device(device)
    return Transcriber(
        Recogniser(
            load_checkpoint(name_or_dir),
            device=chosen,
            dtype=choose_dtype(dtype, chosen),
            assistant=None if assistant is None else load_checkpoint(assistant),
        )
    )
