"""Extensions from other packages, found by their entry points (see docs/extending.md).

A package registers a function under a name in its `pyproject.toml`:

    [project.entry-points."whisperstill.filter_rules"]
    too_short = "my_package:too_short"

| group | function |
| --- | --- |
| `whisperstill.corpus_readers` | `corpus.reading.Layout`: detects and reads a corpus layout |
| `whisperstill.filter_rules` | `label.filter_rules.Rule`: the measured value if an utterance is dropped, else None |
| `whisperstill.losses` | `distill.divergence.DivergenceFunction`: a value of `--divergence` |
| `whisperstill.trackers` | `(output, resume_step) -> distill.metrics.Tracker`: receives the metrics of a training |
"""

from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from whisperstill.errors import SettingsError

Plugin = TypeVar("Plugin")
GroupName: TypeAlias = Literal["corpus_readers", "filter_rules", "losses", "trackers"]


class PluginGroup(Generic[Plugin]):
    """The extensions of one group, each a `Plugin`: `PluginGroup[Rule]("filter_rules")`."""

    def __init__(self, name: GroupName) -> None:
        self._name = name

    def load(self) -> dict[str, Plugin]:
        """Extensions by name, sorted. Raises `SettingsError` if a package that registers one cannot be imported."""
        return _load_group(self._name)


def registered_names(group: GroupName) -> list[str]:
    """Sorted names of the extensions of a group; imports none of them."""
    return sorted(entry_points(group=f"whisperstill.{group}").names)


@cache
def _load_group(group: GroupName) -> dict[str, Any]:
    extensions = {}
    for entry_point in sorted(entry_points(group=f"whisperstill.{group}"), key=lambda entry_point: entry_point.name):
        try:
            extensions[entry_point.name] = entry_point.load()
        except Exception as error:
            raise SettingsError(
                f"cannot load {entry_point.value}, which registers {entry_point.name!r} as whisperstill.{group}: "
                f"{error}; fix or uninstall that package"
            ) from error
    return extensions
