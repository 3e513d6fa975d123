"""faster-whisper: `WhisperModel.transcribe` on CTranslate2 directories, without its VAD filter.

Long recordings: sequential windows, each starting where the last one ended, not conditioned on previous text; windows
of 30 s for a student that was trained without timestamps.

Pitfalls. A model may predict timestamps although `without_timestamps` is set; faster-whisper then seeks to the last of
them, forever if that is `<|0.00|>`. All timestamps are therefore suppressed, which changes nothing for other models.
A short clip is padded with zero features instead of silence, which changes some words. CTranslate2 halves the sum of
`max_new_tokens` and the prompt length; the default gives 224 tokens per window, as in the other engines.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from whisperstill.corpus.loading import Waveform
from whisperstill.errors import MissingExtraError, SettingsError
from whisperstill.evaluate.engines.external_engine import EngineFormat, prepare_checkpoint
from whisperstill.export.ctranslate2 import write_ctranslate2
from whisperstill.model.device import choose_device
from whisperstill.model.dims import Dims
from whisperstill.units import WINDOW_SAMPLES

_DEFAULT_MELS = 80
"""Mel bins that faster-whisper assumes without a preprocessor_config.json."""


def _is_complete(directory: Path, dims: Dims) -> bool:
    names = {entry.name for entry in directory.iterdir()}
    return (
        names >= {"model.bin", "config.json", "tokenizer.json"}
        and bool(names & {"vocabulary.json", "vocabulary.txt"})
        and (dims.mels == _DEFAULT_MELS or "preprocessor_config.json" in names)
    )


CTRANSLATE2_FORMAT = EngineFormat("ctranslate2-float32", write_ctranslate2, "ctranslate2", _is_complete)


class FasterWhisper:
    """A model in faster-whisper.

    Compute types: float32, float16, bfloat16 and int8, if the device supports them; `auto` is float32 on a CPU and
    float16 on a GPU.
    """

    def __init__(self, source: str | Path, cache: Path, device: str, dtype: str) -> None:
        """See `engines.load_engine`."""
        try:
            from faster_whisper import WhisperModel  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("the engine faster-whisper", "faster-whisper") from error
        self.device = choose_device(device)
        device_type, _, index = self.device.partition(":")
        self.dtype = ("float32" if device_type == "cpu" else "float16") if dtype == "auto" else dtype
        directory, self.description = prepare_checkpoint(source, cache, CTRANSLATE2_FORMAT)
        self.version = version("faster-whisper")
        try:
            self.model: Any = WhisperModel(
                str(directory),
                device=device_type,
                device_index=int(index or 0),
                compute_type=self.dtype,
                cpu_threads=torch.get_num_threads(),
                local_files_only=True,
            )
        except ValueError as error:  # CTranslate2 was built without this dtype or device
            raise SettingsError(
                f"expected a dtype that faster-whisper supports on {self.device}, got {self.dtype}: {error}"
            ) from error

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """See `ExternalEngine`. Waveforms are decoded one by one."""
        codes = [self.description.resolve_language(language) for language in languages]
        vocabulary, timestamps = self.description.vocabulary, long_form and self.description.timestamps
        suppressed_timestamps = () if timestamps else range(vocabulary.timestamp_begin, vocabulary.size)
        options = {} if long_form else {"no_speech_threshold": None}  # keep the text of every window
        texts = []
        for waveform, code in zip(waveforms, codes, strict=True):
            segments, _ = self.model.transcribe(
                waveform if long_form else waveform[:WINDOW_SAMPLES],
                language=code,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                vad_filter=False,
                suppress_tokens=[*self.description.suppress_tokens, *suppressed_timestamps],
                without_timestamps=not timestamps,
                **options,
            )
            texts.append(" ".join(segment.text.strip() for segment in segments).strip())
        return texts
