"""The verbs as Python functions: settings in, report out.

    report = whisperstill.label(LabelSettings(teacher="base", manifest=("speech/",), output=Path("labels")))

Every function runs the stage of its name, shows progress on `console` (nothing by default) and raises a
`WhisperstillError` for what the caller can fix. Stages are imported when a function is called.
"""

from typing import TYPE_CHECKING

from whisperstill.console import Console, NullConsole

if TYPE_CHECKING:
    from whisperstill.stages.ablate import AblateReport, AblateSettings
    from whisperstill.stages.compare import CompareReport, CompareSettings
    from whisperstill.stages.compress import CompressReport, CompressSettings
    from whisperstill.stages.doctor import DoctorReport, DoctorSettings
    from whisperstill.stages.evaluate import EvaluateReport, EvaluateSettings
    from whisperstill.stages.export import ExportReport, ExportSettings
    from whisperstill.stages.filter import FilterReport, FilterSettings
    from whisperstill.stages.init import InitReport, InitSettings
    from whisperstill.stages.label import LabelReport, LabelSettings
    from whisperstill.stages.plan import PlanReport, PlanSettings
    from whisperstill.stages.report import ReportReport, ReportSettings
    from whisperstill.stages.run import RunReport, RunSettings
    from whisperstill.stages.sweep import SweepReport, SweepSettings
    from whisperstill.stages.train import TrainReport, TrainSettings
    from whisperstill.stages.transcribe import TranscribeReport, TranscribeSettings


def label(settings: "LabelSettings", console: Console | None = None) -> "LabelReport":
    """Pseudo-labels a corpus with the teacher."""
    from whisperstill.stages.label import run

    return run(settings, console or NullConsole())


def filter(settings: "FilterSettings", console: Console | None = None) -> "FilterReport":
    """Decides which pseudo-labels are used for training."""
    from whisperstill.stages.filter import run

    return run(settings, console or NullConsole())


def init(settings: "InitSettings", console: Console | None = None) -> "InitReport":
    """Makes a student from layers of the teacher."""
    from whisperstill.stages.init import run

    return run(settings, console or NullConsole())


def train(settings: "TrainSettings", console: Console | None = None) -> "TrainReport":
    """Trains a student on pseudo-labels."""
    from whisperstill.stages.train import run

    return run(settings, console or NullConsole())


def compress(settings: "CompressSettings", console: Console | None = None) -> "CompressReport":
    """Trains a student with a shallower encoder."""
    from whisperstill.stages.compress import run

    return run(settings, console or NullConsole())


def evaluate(settings: "EvaluateSettings", console: Console | None = None) -> "EvaluateReport":
    """Measures word error rate, speed and size of models."""
    from whisperstill.stages.evaluate import run

    return run(settings, console or NullConsole())


def report(settings: "ReportSettings", console: Console | None = None) -> "ReportReport":
    """Renders evaluation results as a page, Markdown and a model card."""
    from whisperstill.stages.report import run

    return run(settings, console or NullConsole())


def compare(settings: "CompareSettings", console: Console | None = None) -> "CompareReport":
    """Tests whether two evaluations differ."""
    from whisperstill.stages.compare import run

    return run(settings, console or NullConsole())


def transcribe(settings: "TranscribeSettings", console: Console | None = None) -> "TranscribeReport":
    """Transcribes audio files to text and subtitle files."""
    from whisperstill.stages.transcribe import run

    return run(settings, console or NullConsole())


def export(settings: "ExportSettings", console: Console | None = None) -> "ExportReport":
    """Writes a model for another engine."""
    from whisperstill.stages.export import run

    return run(settings, console or NullConsole())


def run(settings: "RunSettings", console: Console | None = None) -> "RunReport":
    """Runs the missing stages of a recipe."""
    from whisperstill.stages.run import run as run_stages

    return run_stages(settings, console or NullConsole())


def sweep(settings: "SweepSettings", console: Console | None = None) -> "SweepReport":
    """Trains a recipe in many variants and compares them."""
    from whisperstill.stages.sweep import run

    return run(settings, console or NullConsole())


def ablate(settings: "AblateSettings", console: Console | None = None) -> "AblateReport":
    """Varies one setting of a recipe at a time and evaluates each student."""
    from whisperstill.stages.ablate import run

    return run(settings, console or NullConsole())


def plan(settings: "PlanSettings", console: Console | None = None) -> "PlanReport":
    """Estimates time, disk and accuracy of distilling a teacher."""
    from whisperstill.stages.plan import run

    return run(settings, console or NullConsole())


def doctor(settings: "DoctorSettings", console: Console | None = None) -> "DoctorReport":
    """Describes this machine, and estimates how long a recipe takes on it."""
    from whisperstill.stages.doctor import run

    return run(settings, console or NullConsole())
