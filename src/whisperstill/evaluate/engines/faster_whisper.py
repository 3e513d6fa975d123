"""faster-whisper: `WhisperModel.transcribe` on CTranslate2 directories, without its voice detector.

Long recordings are heard window by window, each from where the one before ended, without the text before it; of a
student that never saw timestamps every 30 s.

The traps: where a network says timestamps though it was told not to, faster-whisper goes on from the last of them, for
ever where that is `<|0.00|>`; so all are suppressed there, and a network that says none is heard the same. A short clip
is padded with features of zero instead of silence, and some words come out otherwise. `max_new_tokens` is not what it
says: CTranslate2 halves its sum with the prompt; left alone a window has 224, as in the others.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.evaluate.engines.conversion import Form, prepared
from whisperstill.evaluate.engines.engine import Waveform
from whisperstill.export.ctranslate2 import write_ctranslate2
from whisperstill.model.device import choose_device
from whisperstill.model.dims import Dims
from whisperstill.units import WINDOW_SAMPLES

_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_USUAL_MELS = 80
"""What faster-whisper takes where no preprocessor_config.json says otherwise."""


def _complete(directory: Path, dims: Dims) -> bool:
    names = {entry.name for entry in directory.iterdir()}
    return (
        names >= {"model.bin", "config.json", "tokenizer.json"}
        and bool(names & {"vocabulary.json", "vocabulary.txt"})
        and (dims.mels == _USUAL_MELS or "preprocessor_config.json" in names)
    )


FORM = Form("ctranslate2-float32", write_ctranslate2, "ctranslate2", _complete)


class FasterWhisper:
    """A model in faster-whisper. Types: fp32, fp16, bf16, int8, as far as the device has them; `auto` is fp32 on a
    CPU and fp16 on a GPU."""

    name = "faster-whisper"

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.engine`."""
        try:
            from faster_whisper import WhisperModel  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("the engine faster-whisper", "faster-whisper") from error
        self.device = choose_device(device)
        kind, _, index = self.device.partition(":")
        self.dtype = _TYPES["fp32" if kind == "cpu" else "fp16"] if dtype == "auto" else _TYPES[dtype]
        directory, self.about = prepared(source, cache, FORM)
        self.version = version("faster-whisper")
        self.tokens = 0
        try:
            self._model: Any = WhisperModel(
                str(directory),
                device=kind,
                device_index=int(index or 0),
                compute_type=self.dtype,
                cpu_threads=torch.get_num_threads(),
                local_files_only=True,
            )
        except ValueError as error:  # a type or a device that its library was not built for
            raise SettingsError(f"faster-whisper cannot compute in {self.dtype} on {self.device}: {error}") from error

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long: bool = False
    ) -> list[str]:
        """See `Engine`. One after the other."""
        codes = [self.about.spoken(one) for one in languages]
        vocabulary, timestamps = self.about.vocabulary, long and self.about.timestamps
        barred = () if timestamps else range(vocabulary.timestamp_begin, vocabulary.size)
        said: dict[str, Any] = {"without_timestamps": not timestamps}
        if not long:
            said["no_speech_threshold"] = None  # every window is heard
        texts = []
        for waveform, code in zip(waveforms, codes, strict=True):
            segments, _ = self._model.transcribe(
                waveform if long else waveform[:WINDOW_SAMPLES],
                language=code,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                vad_filter=False,
                suppress_tokens=[*self.about.suppress, *barred],
                **said,
            )
            heard = list(segments)
            self.tokens += sum(vocabulary.is_text(token) for one in heard for token in one.tokens)
            texts.append(" ".join(one.text.strip() for one in heard).strip())
        return texts
