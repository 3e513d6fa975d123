"""The verbs as Python functions: settings in, report out.

    report = whisperstill.label(LabelSettings(teacher="base", manifest=("speech/",), output=Path("labels")))

Every function is the `run` of its stage, shows progress on `console` (nothing by default) and raises a
`WhisperstillError` for what the caller can fix. Stages are imported when a function is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whisperstill.stages.ablate import run as ablate
    from whisperstill.stages.compare import run as compare
    from whisperstill.stages.compress import run as compress
    from whisperstill.stages.doctor import run as doctor
    from whisperstill.stages.evaluate import run as evaluate
    from whisperstill.stages.export import run as export
    from whisperstill.stages.filter import run as filter
    from whisperstill.stages.init import run as init
    from whisperstill.stages.label import run as label
    from whisperstill.stages.plan import run as plan
    from whisperstill.stages.report import run as report
    from whisperstill.stages.run import run as run
    from whisperstill.stages.sweep import run as sweep
    from whisperstill.stages.train import run as train
    from whisperstill.stages.transcribe import run as transcribe

__all__ = ["ablate", "compare", "compress", "doctor", "evaluate", "export", "filter", "init", "label", "plan"]
__all__ += ["report", "run", "sweep", "train", "transcribe"]


def __getattr__(name: str) -> object:
    """Imports a verb when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'whisperstill.api' has no attribute {name!r}")
    return import_module(f"whisperstill.stages.{name}").run
