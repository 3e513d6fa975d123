"""Distil Whisper: a Whisper teacher and your speech in, a small fast student and a report out.

    import whisperstill as ws
    print(ws.load("tiny.en").transcribe("speech.flac").text)
    report = ws.init(ws.InitSettings(teacher="tiny.en", decoder_layers=2, output=Path("tiny-student")))

Every verb of the command line is a function of this package that takes its settings and returns its report (`api`).
Names are imported when they are first used, so `import whisperstill` loads no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from whisperstill._version import __version__
from whisperstill.api import (
    ablate,
    compare,
    compress,
    doctor,
    evaluate,
    export,
    filter,
    init,
    label,
    plan,
    report,
    run,
    sweep,
    train,
    transcribe,
)
from whisperstill.console import Console, NullConsole

if TYPE_CHECKING:
    from whisperstill.decode.options import DecodingOptions as DecodingOptions
    from whisperstill.decode.output.transcript import Segment as Segment
    from whisperstill.decode.output.transcript import Transcript as Transcript
    from whisperstill.decode.output.transcript import Word as Word
    from whisperstill.decode.transcriber import Transcriber as Transcriber
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
    from whisperstill.stages.ablate import AblateReport as AblateReport
    from whisperstill.stages.ablate import AblateSettings as AblateSettings
    from whisperstill.stages.compare import CompareReport as CompareReport
    from whisperstill.stages.compare import CompareSettings as CompareSettings
    from whisperstill.stages.compress import CompressReport as CompressReport
    from whisperstill.stages.compress import CompressSettings as CompressSettings
    from whisperstill.stages.doctor import DoctorReport as DoctorReport
    from whisperstill.stages.doctor import DoctorSettings as DoctorSettings
    from whisperstill.stages.evaluate import EvaluateReport as EvaluateReport
    from whisperstill.stages.evaluate import EvaluateSettings as EvaluateSettings
    from whisperstill.stages.export import ExportReport as ExportReport
    from whisperstill.stages.export import ExportSettings as ExportSettings
    from whisperstill.stages.filter import FilterReport as FilterReport
    from whisperstill.stages.filter import FilterSettings as FilterSettings
    from whisperstill.stages.init import InitReport as InitReport
    from whisperstill.stages.init import InitSettings as InitSettings
    from whisperstill.stages.label import LabelReport as LabelReport
    from whisperstill.stages.label import LabelSettings as LabelSettings
    from whisperstill.stages.plan import PlanReport as PlanReport
    from whisperstill.stages.plan import PlanSettings as PlanSettings
    from whisperstill.stages.report import ReportReport as ReportReport
    from whisperstill.stages.report import ReportSettings as ReportSettings
    from whisperstill.stages.run import RunReport as RunReport
    from whisperstill.stages.run import RunSettings as RunSettings
    from whisperstill.stages.sweep import SweepReport as SweepReport
    from whisperstill.stages.sweep import SweepSettings as SweepSettings
    from whisperstill.stages.train import TrainReport as TrainReport
    from whisperstill.stages.train import TrainSettings as TrainSettings
    from whisperstill.stages.transcribe import TranscribeReport as TranscribeReport
    from whisperstill.stages.transcribe import TranscribeSettings as TranscribeSettings

_LAZY_NAMES = {
    "AblateReport": "whisperstill.stages.ablate",
    "AblateSettings": "whisperstill.stages.ablate",
    "AudioError": "whisperstill.errors",
    "CheckpointError": "whisperstill.errors",
    "CompareReport": "whisperstill.stages.compare",
    "CompareSettings": "whisperstill.stages.compare",
    "CompressReport": "whisperstill.stages.compress",
    "CompressSettings": "whisperstill.stages.compress",
    "CorpusError": "whisperstill.errors",
    "DecodingOptions": "whisperstill.decode.options",
    "DoctorReport": "whisperstill.stages.doctor",
    "DoctorSettings": "whisperstill.stages.doctor",
    "EvaluateReport": "whisperstill.stages.evaluate",
    "EvaluateSettings": "whisperstill.stages.evaluate",
    "ExportReport": "whisperstill.stages.export",
    "ExportSettings": "whisperstill.stages.export",
    "FilterReport": "whisperstill.stages.filter",
    "FilterSettings": "whisperstill.stages.filter",
    "InitReport": "whisperstill.stages.init",
    "InitSettings": "whisperstill.stages.init",
    "LabelReport": "whisperstill.stages.label",
    "LabelSettings": "whisperstill.stages.label",
    "MissingExtraError": "whisperstill.errors",
    "NotFoundError": "whisperstill.errors",
    "PlanReport": "whisperstill.stages.plan",
    "PlanSettings": "whisperstill.stages.plan",
    "ReportReport": "whisperstill.stages.report",
    "ReportSettings": "whisperstill.stages.report",
    "RunReport": "whisperstill.stages.run",
    "RunSettings": "whisperstill.stages.run",
    "Segment": "whisperstill.decode.output.transcript",
    "SettingsError": "whisperstill.errors",
    "StoreError": "whisperstill.errors",
    "SweepReport": "whisperstill.stages.sweep",
    "SweepSettings": "whisperstill.stages.sweep",
    "TrainReport": "whisperstill.stages.train",
    "TrainSettings": "whisperstill.stages.train",
    "TrainingError": "whisperstill.errors",
    "TranscribeReport": "whisperstill.stages.transcribe",
    "TranscribeSettings": "whisperstill.stages.transcribe",
    "Transcriber": "whisperstill.decode.transcriber",
    "Transcript": "whisperstill.decode.output.transcript",
    "TranscriptionInfo": "whisperstill.decode.transcriber",
    "WhisperstillError": "whisperstill.errors",
    "Word": "whisperstill.decode.output.transcript",
    "load": "whisperstill.decode.transcriber",
}
"""Public name -> its module."""

__all__ = [
    "AblateReport",
    "AblateSettings",
    "AudioError",
    "CheckpointError",
    "CompareReport",
    "CompareSettings",
    "CompressReport",
    "CompressSettings",
    "Console",
    "CorpusError",
    "DecodingOptions",
    "DoctorReport",
    "DoctorSettings",
    "EvaluateReport",
    "EvaluateSettings",
    "ExportReport",
    "ExportSettings",
    "FilterReport",
    "FilterSettings",
    "InitReport",
    "InitSettings",
    "LabelReport",
    "LabelSettings",
    "MissingExtraError",
    "NotFoundError",
    "NullConsole",
    "PlanReport",
    "PlanSettings",
    "ReportReport",
    "ReportSettings",
    "RunReport",
    "RunSettings",
    "Segment",
    "SettingsError",
    "StoreError",
    "SweepReport",
    "SweepSettings",
    "TrainReport",
    "TrainSettings",
    "TrainingError",
    "TranscribeReport",
    "TranscribeSettings",
    "Transcriber",
    "Transcript",
    "TranscriptionInfo",
    "WhisperstillError",
    "Word",
    "__version__",
    "ablate",
    "compare",
    "compress",
    "doctor",
    "evaluate",
    "export",
    "filter",
    "init",
    "label",
    "load",
    "plan",
    "report",
    "run",
    "sweep",
    "train",
    "transcribe",
]


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module 'whisperstill' has no attribute {name!r}")
    value = getattr(import_module(_LAZY_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _CallablePackage(ModuleType):
    """A subpackage with the name of a verb: `whisperstill.label.store` is a module, `whisperstill.label(...)` the verb.

    The trap: importing a subpackage sets it as attribute of its parent, which would hide the function of that name.
    """

    def __call__(self, settings: object, console: Console | None = None) -> object:
        return getattr(import_module("whisperstill.api"), self.__name__.rpartition(".")[2])(settings, console)


class _Package(ModuleType):
    """This package; see `_CallablePackage`."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and callable(self.__dict__.get(name)):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
