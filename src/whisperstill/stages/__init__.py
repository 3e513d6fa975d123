"""One file, one verb: a frozen settings dataclass and `run(settings, console) -> report`.

Settings import no torch; what is heavy is imported inside `run`.
"""

import sys
from typing import Any

from whisperstill.errors import SettingsError
from whisperstill.stages.console import Console, Silent


def carry_out(settings: object, console: Console | None = None) -> Any:
    """Runs the stage that `settings` belongs to and gives its report.

    `carry_out(LabelSettings(...))` is `stages.label.run(LabelSettings(...), Silent())`. Raises `SettingsError` when
    `settings` is no settings of a stage, and whatever the stage raises.
    """
    home = type(settings).__module__
    run = getattr(sys.modules[home], "run", None) if home.startswith("whisperstill.stages.") else None
    if run is None:
        raise SettingsError(f"expected the settings of a stage such as LabelSettings, got {type(settings).__name__}")
    return run(settings, console or Silent())
