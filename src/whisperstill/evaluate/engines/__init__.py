"""The same model in another engine than ours, so that a suite can measure both beside each other.

    load_engine("faster-whisper", "tiny.en", cache).transcribe(waveforms, ["en", None])

    transformers     Hugging Face directories (extra `transformers`)
    faster-whisper   CTranslate2 directories (extra `faster-whisper`)
    whisper.cpp      ggml files (extra `whispercpp`); on the CPU

A checkpoint in another form than an engine opens is written into `cache` by our own exporters, once (`conversion`).
Each library is imported in its own file, when its engine is made, and given a local path: none of them asks the hub.

All decode greedily, at temperature 0 and never again at another one, at most 224 tokens a window, with as many threads
as torch has. Utterances up to 30 s are one window, without timestamps. For longer ones each has its own way, with
timestamps unless the model is a student that never saw any. How features are made and padded is each library's own.
"""

from pathlib import Path

from whisperstill.errors import SettingsError
from whisperstill.evaluate.engines.external_engine import ExternalEngine

ENGINE_NAMES = ("transformers", "faster-whisper", "whisper.cpp")
ENGINE_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
"""Types of computation; no engine has all."""

__all__ = ["ENGINE_DTYPES", "ENGINE_NAMES", "ExternalEngine", "load_engine"]


def load_engine(
    name: str, source: str | Path, cache: Path, *, device: str = "auto", dtype: str = "auto"
) -> ExternalEngine:
    """A model in the engine called `name`.

    `source` is a name (`tiny.en`), a directory, or for whisper.cpp also a ggml file. `device` is `auto`, `cpu` or
    `cuda`. `dtype` is what is computed in: `auto` is the engine's habit there (transformers and faster-whisper:
    float32 on a CPU; whisper.cpp: float16). Raises `SettingsError` for a name, a device or a type that the engine does
    not have, `MissingExtraError` without its library, `NotFoundError` and `CheckpointError` as `load_checkpoint`.
    """
    if name not in ENGINE_NAMES:
        raise SettingsError(f"expected an engine out of {', '.join(ENGINE_NAMES)}, got {name!r}")
    if dtype not in ENGINE_DTYPES:
        raise SettingsError(f"expected a type out of {', '.join(ENGINE_DTYPES)}, got {dtype!r}")
    from whisperstill.evaluate.engines.whispercpp import WhisperCpp, is_ggml

    if name == "whisper.cpp":
        return WhisperCpp(source, cache, device, dtype)
    if is_ggml(source):
        raise SettingsError(f"{source} is a file of whisper.cpp, got the engine {name}: only whisper.cpp opens it")
    if name == "transformers":
        from whisperstill.evaluate.engines.transformers import Transformers

        return Transformers(source, cache, device, dtype)
    from whisperstill.evaluate.engines.faster_whisper import FasterWhisper

    return FasterWhisper(source, cache, device, dtype)
