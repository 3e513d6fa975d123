"""The verbs: one module each, with a frozen settings dataclass and `run(settings, console) -> report`.

A module imports no torch; `run` imports what is heavy.
"""

from importlib import import_module

from whisperstill.pipeline.recipe import StageVerb
from whisperstill.records.serialization import DataclassInstance


def load_verb(name: str) -> StageVerb[DataclassInstance]:
    """Imports `stages/<name>.py` and returns its settings class and `run`."""
    module = import_module(f"{__name__}.{name}")
    return StageVerb(getattr(module, f"{name.capitalize()}Settings"), module.run)
