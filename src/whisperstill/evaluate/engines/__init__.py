"""Whisper models in other libraries, so that an evaluation can compare them with whisperstill.

    load_engine("faster-whisper", "tiny.en", cache).transcribe(waveforms, ["en", None])

    transformers     Hugging Face directories (extra `transformers`)
    faster-whisper   CTranslate2 directories (extra `faster-whisper`)
    whisper.cpp      ggml files (extra `whispercpp`), on the CPU

A checkpoint in another format is converted into `cache` once, by our exporters. Each library is imported when its
engine is loaded, and gets a local path: none contacts the Hugging Face Hub.

All engines decode greedily at temperature 0 without fallback, with at most 224 tokens per window and torch's number of
threads. Utterances of up to 30 s are one window without timestamps. Longer ones use the library's own long-form
algorithm, with timestamps unless the student was trained without them. Features and padding are the library's own.
"""

from pathlib import Path

from whisperstill.errors import SettingsError
from whisperstill.evaluate.engines.external_engine import ExternalEngine

__all__ = ["ExternalEngine", "load_engine"]


def load_engine(
    name: str, source: str | Path, cache: Path, *, device: str = "auto", dtype: str = "auto"
) -> ExternalEngine:
    """Loads a model in `transformers`, `faster-whisper` or `whisper.cpp` (`name`).

    `cache` is the folder of converted models. `source` is a model name (`tiny.en`), a directory, or a ggml file for
    whisper.cpp. `device` is `auto`, `cpu` or `cuda`. `dtype` is the compute type; `auto` is the engine's default
    (transformers and faster-whisper: float32 on a CPU; whisper.cpp: float16). Raises `SettingsError` for an unknown
    engine, device or dtype, `MissingExtraError` without the library, `NotFoundError` or `CheckpointError` if the model
    is missing or cannot be read.
    """
    from whisperstill.evaluate.engines.whispercpp import WhisperCpp, is_ggml

    if name == "whisper.cpp":
        return WhisperCpp(source, cache, device, dtype)
    if is_ggml(source):
        raise SettingsError(f"expected the engine whisper.cpp for the ggml file {source}, got {name}")
    if name == "transformers":
        from whisperstill.evaluate.engines.transformers import Transformers

        return Transformers(source, cache, device, dtype)
    if name != "faster-whisper":
        raise SettingsError(f"expected the engine transformers, faster-whisper or whisper.cpp, got {name}")
    from whisperstill.evaluate.engines.faster_whisper import FasterWhisper

    return FasterWhisper(source, cache, device, dtype)
