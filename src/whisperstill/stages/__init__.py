"""One file, one verb: a frozen settings dataclass and `run(settings, console) -> report`.

Settings import no torch; what is heavy is imported inside `run`.
"""

import sys
from typing import Any

from whisperstill.errors import SettingsError
from whisperstill.stages.console import Console, NullConsole


def run_settings(settings: object, console: Console | None = None) -> Any:
    """Runs the stage that `settings` belongs to and gives its report.

    `run_settings(LabelSettings(...))` is `stages.label.run(LabelSettings(...), NullConsole())`. Raises `SettingsError`
    when `settings` is no settings of a stage, and whatever the stage raises.
    """
    module_name = type(settings).__module__
    stage_run = (
        getattr(sys.modules[module_name], "run", None) if module_name.startswith("whisperstill.stages.") else None
    )
    if stage_run is None:
        raise SettingsError(f"expected the settings of a stage such as LabelSettings, got {type(settings).__name__}")
    return stage_run(settings, console or NullConsole())
