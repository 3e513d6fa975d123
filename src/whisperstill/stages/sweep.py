"""`sweep`: train a recipe in many variants over one label store."""

from whisperstill.console import SILENT, Console
from whisperstill.pipeline.sweep import SweepReport, SweepSettings, run_sweep
from whisperstill.stages import load_verb

__all__ = ["SweepReport", "SweepSettings", "run"]


def run(settings: SweepSettings, console: Console = SILENT) -> SweepReport:
    """Trains every combination of the grid with every seed; see `pipeline.sweep`."""
    from whisperstill.distill.validation import shared_encoder_cache

    with shared_encoder_cache():
        return run_sweep(settings, load_verb, console)
