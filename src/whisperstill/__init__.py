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

from whisperstill import api as _api
from whisperstill._version import __version__ as __version__
from whisperstill.console import SILENT as _SILENT, Console as Console, NullConsole as NullConsole

if TYPE_CHECKING:
    from whisperstill.api import (
        ablate as ablate,
        compare as compare,
        compress as compress,
        doctor as doctor,
        evaluate as evaluate,
        export as export,
        filter as filter,
        init as init,
        label as label,
        plan as plan,
        report as report,
        run as run,
        sweep as sweep,
        train as train,
        transcribe as transcribe,
    )
    from whisperstill.decode.options import DecodingOptions as DecodingOptions
    from whisperstill.decode.output.transcript import Segment as Segment, Transcript as Transcript, Word as Word
    from whisperstill.decode.transcriber import (
        Transcriber as Transcriber,
        TranscriptionInfo as TranscriptionInfo,
        load as load,
    )
    from whisperstill.errors import (
        AudioError as AudioError,
        CheckpointError as CheckpointError,
        CorpusError as CorpusError,
        MissingExtraError as MissingExtraError,
        NotFoundError as NotFoundError,
        SettingsError as SettingsError,
        StoreError as StoreError,
        TrainingError as TrainingError,
        WhisperstillError as WhisperstillError,
    )
    from whisperstill.stages.ablate import AblateReport as AblateReport, AblateSettings as AblateSettings
    from whisperstill.stages.compare import CompareReport as CompareReport, CompareSettings as CompareSettings
    from whisperstill.stages.compress import CompressReport as CompressReport, CompressSettings as CompressSettings
    from whisperstill.stages.doctor import DoctorReport as DoctorReport, DoctorSettings as DoctorSettings
    from whisperstill.stages.evaluate import EvaluateReport as EvaluateReport, EvaluateSettings as EvaluateSettings
    from whisperstill.stages.export import ExportReport as ExportReport, ExportSettings as ExportSettings
    from whisperstill.stages.filter import FilterReport as FilterReport, FilterSettings as FilterSettings
    from whisperstill.stages.init import InitReport as InitReport, InitSettings as InitSettings
    from whisperstill.stages.label import LabelReport as LabelReport, LabelSettings as LabelSettings
    from whisperstill.stages.plan import PlanReport as PlanReport, PlanSettings as PlanSettings
    from whisperstill.stages.report import ReportReport as ReportReport, ReportSettings as ReportSettings
    from whisperstill.stages.run import RunReport as RunReport, RunSettings as RunSettings
    from whisperstill.stages.sweep import SweepReport as SweepReport, SweepSettings as SweepSettings
    from whisperstill.stages.train import TrainReport as TrainReport, TrainSettings as TrainSettings
    from whisperstill.stages.transcribe import (
        TranscribeReport as TranscribeReport,
        TranscribeSettings as TranscribeSettings,
    )

_LAZY_MODULES = {
    "api": _api.__all__,
    "decode.options": ["DecodingOptions"],
    "decode.output.transcript": ["Segment", "Transcript", "Word"],
    "decode.transcriber": ["Transcriber", "TranscriptionInfo", "load"],
    "errors": [
        *("AudioError", "CheckpointError", "CorpusError", "MissingExtraError", "NotFoundError", "SettingsError"),
        *("StoreError", "TrainingError", "WhisperstillError"),
    ],
    **{f"stages.{verb}": [f"{verb.capitalize()}Report", f"{verb.capitalize()}Settings"] for verb in _api.__all__},
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _LAZY_MODULES.items() for name in names}
"""Public name -> its module."""

__all__ = sorted([*_MODULE_OF, "Console", "NullConsole", "__version__"])


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'whisperstill' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _CallablePackage(ModuleType):
    """A subpackage with the name of a verb: `whisperstill.label.store` is a module, `whisperstill.label(...)` the verb.

    The trap: importing a subpackage sets it as attribute of its parent, which would hide the function of that name.
    """

    def __call__(self, settings: object, console: Console = _SILENT) -> object:
        return getattr(_api, self.__name__.rpartition(".")[2])(settings, console)


class _Package(ModuleType):
    """This package; see `_CallablePackage`."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _api.__all__:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
