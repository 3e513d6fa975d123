"""Distil Whisper: a teacher, a pile of audio, and at the end a small fast student with its figures.

Everything public is here and is loaded when it is first used, so that `import whisperstill` loads no torch:

    import whisperstill as ws
    print(ws.load("tiny.en").transcribe("speech.flac").text)
    report = ws.run(ws.InitSettings(teacher="tiny.en", decoder_layers=2, output=Path("tiny-student")))
"""

from importlib import import_module
from typing import TYPE_CHECKING

from whisperstill._version import __version__

if TYPE_CHECKING:
    from whisperstill.decode.options import DecodingOptions as DecodingOptions
    from whisperstill.decode.output.transcript import Segment as Segment
    from whisperstill.decode.output.transcript import Transcript as Transcript
    from whisperstill.decode.output.transcript import Word as Word
    from whisperstill.decode.transcriber import TranscriptionInfo as TranscriptionInfo
    from whisperstill.decode.transcriber import load as load
    from whisperstill.errors import AudioError as AudioError
    from whisperstill.errors import CheckpointError as CheckpointError
    from whisperstill.errors import CorpusError as CorpusError
    from whisperstill.errors import MissingExtraError as MissingExtraError
    from whisperstill.errors import NotFoundError as NotFoundError
    from whisperstill.errors import SettingsError as SettingsError
    from whisperstill.errors import StoreError as StoreError
    from whisperstill.errors import TrainingError as TrainingError
    from whisperstill.errors import WhisperstillError as WhisperstillError
    from whisperstill.stages import run_settings as run
    from whisperstill.stages.ablate import AblateSettings as AblateSettings
    from whisperstill.stages.compare import CompareSettings as CompareSettings
    from whisperstill.stages.compress import CompressSettings as CompressSettings
    from whisperstill.stages.console import NullConsole as NullConsole
    from whisperstill.stages.doctor import DoctorSettings as DoctorSettings
    from whisperstill.stages.evaluate import EvaluateSettings as EvaluateSettings
    from whisperstill.stages.export import ExportSettings as ExportSettings
    from whisperstill.stages.filter import FilterSettings as FilterSettings
    from whisperstill.stages.init import InitSettings as InitSettings
    from whisperstill.stages.label import LabelSettings as LabelSettings
    from whisperstill.stages.plan import PlanSettings as PlanSettings
    from whisperstill.stages.report import ReportSettings as ReportSettings
    from whisperstill.stages.run import RunSettings as RunSettings
    from whisperstill.stages.sweep import SweepSettings as SweepSettings
    from whisperstill.stages.train import TrainSettings as TrainSettings
    from whisperstill.stages.transcribe import TranscribeSettings as TranscribeSettings

_PUBLIC_MODULES = {
    "AblateSettings": "whisperstill.stages.ablate",
    "AudioError": "whisperstill.errors",
    "CheckpointError": "whisperstill.errors",
    "CompareSettings": "whisperstill.stages.compare",
    "CompressSettings": "whisperstill.stages.compress",
    "CorpusError": "whisperstill.errors",
    "DecodingOptions": "whisperstill.decode.options",
    "DoctorSettings": "whisperstill.stages.doctor",
    "EvaluateSettings": "whisperstill.stages.evaluate",
    "ExportSettings": "whisperstill.stages.export",
    "FilterSettings": "whisperstill.stages.filter",
    "InitSettings": "whisperstill.stages.init",
    "LabelSettings": "whisperstill.stages.label",
    "MissingExtraError": "whisperstill.errors",
    "NotFoundError": "whisperstill.errors",
    "NullConsole": "whisperstill.stages.console",
    "PlanSettings": "whisperstill.stages.plan",
    "ReportSettings": "whisperstill.stages.report",
    "RunSettings": "whisperstill.stages.run",
    "Segment": "whisperstill.decode.output.transcript",
    "SettingsError": "whisperstill.errors",
    "StoreError": "whisperstill.errors",
    "SweepSettings": "whisperstill.stages.sweep",
    "TrainSettings": "whisperstill.stages.train",
    "TrainingError": "whisperstill.errors",
    "TranscribeSettings": "whisperstill.stages.transcribe",
    "Transcript": "whisperstill.decode.output.transcript",
    "TranscriptionInfo": "whisperstill.decode.transcriber",
    "WhisperstillError": "whisperstill.errors",
    "Word": "whisperstill.decode.output.transcript",
    "load": "whisperstill.decode.transcriber",
    "run": "whisperstill.stages",
}
"""Where each public name lives."""
_ATTRIBUTE_NAMES = {"run": "run_settings"}
"""Public names whose module calls them differently (`whisperstill.stages.run` is a module)."""

__all__ = [
    "AblateSettings",
    "AudioError",
    "CheckpointError",
    "CompareSettings",
    "CompressSettings",
    "CorpusError",
    "DecodingOptions",
    "DoctorSettings",
    "EvaluateSettings",
    "ExportSettings",
    "FilterSettings",
    "InitSettings",
    "LabelSettings",
    "MissingExtraError",
    "NotFoundError",
    "NullConsole",
    "PlanSettings",
    "ReportSettings",
    "RunSettings",
    "Segment",
    "SettingsError",
    "StoreError",
    "SweepSettings",
    "TrainSettings",
    "TrainingError",
    "TranscribeSettings",
    "Transcript",
    "TranscriptionInfo",
    "WhisperstillError",
    "Word",
    "__version__",
    "load",
    "run",
]


def __getattr__(name: str) -> object:
    """Loads a public name when it is first asked for (PEP 562)."""
    if name not in _PUBLIC_MODULES:
        raise AttributeError(f"module 'whisperstill' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC_MODULES[name]), _ATTRIBUTE_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
