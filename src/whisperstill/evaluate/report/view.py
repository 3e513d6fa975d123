"""The findings as a report asks for them: who is held against whom, on which sets, and means over sets.

Models stand with the teacher first, then students, then others, and keep that place (and colour) in every table and
chart. Sets stand with those of the training's own distribution first.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from whisperstill.audio.conditions import NAMES, Condition
from whisperstill.evaluate.report.blocks import NOTHING, Value
from whisperstill.evaluate.report.numbers import rate
from whisperstill.evaluate.tables import shortened
from whisperstill.records.findings import Cell, Findings, ModelMeasured, SetMeasured, Speed

CLEAN = "clean"
"""The condition of sound as it was recorded, where that is measured beside others."""

_NOISES = ("white", "pink", "babble")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over sets, each counting the same, with its 95 % interval; sets are independent samples, so the squares
    of their intervals' halves add."""

    value: float
    low: float
    high: float
    sets: int


class View:
    """Findings, in order."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.teacher = findings.teacher
        order = {"teacher": 0, "student": 1}
        self.models = sorted(findings.models, key=lambda model: order.get(model.role, 2))
        known = {model.name for model in self.models}
        for name in dict.fromkeys(self._named()):
            if name not in known:
                self.models.append(ModelMeasured(name, name))
        self.contenders = [model for model in self.models if model is not self.teacher]
        self.labels = shortened([model.name for model in self.models])
        self.places = {model.name: place for place, model in enumerate(self.models)}

    def _named(self) -> Iterable[str]:
        yield from (cell.model for cell in self.findings.cells)
        yield from (speed.model for speed in self.findings.speeds)

    @property
    def main(self) -> ModelMeasured | None:
        """Whom the report is about: the first student, else the first that is not the teacher, else the teacher."""
        return next(iter(self.contenders), self.teacher)

    @cached_property
    def sets(self) -> list[SetMeasured]:
        """In distribution first, then short before long; a set that is only named in cells is known by its cells."""
        sets = {one.name: one for one in self.findings.sets}
        for cell in self.findings.cells:
            if cell.set not in sets:
                long, silent = cell.measurement == "long_form", cell.measurement == "non_speech"
                sets[cell.set] = SetMeasured(
                    *(cell.set, "", "", cell.utterances, cell.hours, cell.words, "", "", "word", False, long, silent)
                )
        return sorted(sets.values(), key=lambda one: (not one.in_distribution, one.long))

    def label(self, model: str) -> str:
        """A model's short name."""
        return self.labels.get(model, model)

    def engine(self, model: str) -> str:
        """What a model was run in."""
        return next((one.engine for one in self.models if one.name == model), "whisperstill")

    def set_label(self, one: SetMeasured) -> str:
        """A set's name; what is counted, where that is not words."""
        return one.name if one.unit in ("word", "") else f"{one.name} ({one.unit}s)"

    def counted(self, sets: Sequence[str]) -> str:
        """What error rates of these sets are of: words, characters, or both."""
        units = sorted({one.unit or "word" for one in self.sets if one.name in sets}, reverse=True)
        return " and ".join(f"{unit}s" for unit in units) or "words"

    def select(self, measurement: str | Sequence[str], *, clean: bool = False) -> list[Cell]:
        """Cells of a part of the suite, in the order of sets and models; `clean` leaves out spoiled sound."""
        wanted = (measurement,) if isinstance(measurement, str) else measurement
        sets = {one.name: place for place, one in enumerate(self.sets)}
        cells = [cell for cell in self.findings.cells if cell.measurement in wanted and not (clean and cell.condition)]
        return sorted(cells, key=lambda cell: (sets[cell.set], self.places[cell.model]))

    @cached_property
    def short(self) -> dict[tuple[str, str], Cell]:
        """(model, set) -> its cell of the short form."""
        return {(cell.model, cell.set): cell for cell in reversed(self.select("short_form", clean=True))}

    @cached_property
    def short_sets(self) -> list[SetMeasured]:
        """Sets of the short form, those in distribution first."""
        measured = {name for _, name in self.short}
        return [one for one in self.sets if one.name in measured]

    @cached_property
    def long(self) -> dict[tuple[str, str, str], Cell]:
        """(model, strategy, set) -> its cell of the long form."""
        return {(c.model, c.decoding, c.set): c for c in reversed(self.select("long_form", clean=True))}

    @cached_property
    def long_sets(self) -> list[SetMeasured]:
        """Sets of the long form."""
        measured = {name for *_, name in self.long}
        return [one for one in self.sets if one.name in measured]

    def short_cells(self, model: str, *, in_distribution: bool | None = None) -> list[Cell]:
        """A model's cells of the short form, of one kind of sets or (None) of all."""
        sets = [one.name for one in self.short_sets if in_distribution in (None, one.in_distribution)]
        return [self.short[model, name] for name in sets if (model, name) in self.short]

    def strategies(self, model: str) -> dict[str, list[Cell]]:
        """Strategy -> a model's cells of the long form, in the order of sets."""
        own = {strategy for name, strategy, _ in self.long if name == model}
        return {
            strategy: [self.long[key] for one in self.long_sets if (key := (model, strategy, one.name)) in self.long]
            for strategy in sorted(own, key=lambda name: (self._strategy_order(name), name))
        }

    def best_strategy(self, model: str, sets: Sequence[SetMeasured] | None = None) -> tuple[str, list[Cell]] | None:
        """The strategy with the lowest mean error rate on these sets (all), of those measured on most of them."""
        names = {one.name for one in (self.long_sets if sets is None else sets)}
        found = {
            strategy: inside
            for strategy, cells in self.strategies(model).items()
            if (inside := [cell for cell in cells if cell.set in names])
        }
        if not found:
            return None
        most = max(map(len, found.values()))
        full = [(strategy, cells) for strategy, cells in found.items() if len(cells) == most]
        return min(full, key=lambda item: sum(cell.wer for cell in item[1]))

    @cached_property
    def far_long_sets(self) -> list[SetMeasured]:
        """Sets of the long form out of distribution; all of them, where there are none."""
        return [one for one in self.long_sets if not one.in_distribution] or self.long_sets

    @staticmethod
    def _strategy_order(strategy: str) -> int:
        order = ("chunked", "sequential", "vad", "quiet")
        return order.index(strategy) if strategy in order else len(order)

    def speed(self, model: str, batch_size: int = 1) -> Speed | None:
        """A model's speed at a batch size."""
        speeds = self.findings.speeds
        return next((one for one in speeds if one.model == model and one.batch_size == batch_size), None)

    def relative_speed(self, model: str) -> float | None:
        """How many times as fast as the teacher a model answers at batch 1; None where one of them is not known."""
        own, teachers = self.speed(model), self.teacher and self.speed(self.teacher.name)
        return teachers.latency_ms / own.latency_ms if own and teachers and own.latency_ms else None

    @cached_property
    def _of_teacher(self) -> dict[tuple[object, ...], Cell]:
        name = self.teacher.name if self.teacher else None
        return {_circumstances(cell): cell for cell in reversed(self.findings.cells) if cell.model == name}

    def of_teacher(self, cell: Cell) -> Cell | None:
        """The teacher's cell under the same circumstances."""
        return self._of_teacher.get(_circumstances(cell))


def _circumstances(cell: Cell) -> tuple[object, ...]:
    return cell.measurement, cell.set, cell.decoding, cell.condition, cell.chunk_length


def mean(cells: Sequence[Cell]) -> Mean | None:
    """Mean error rate over cells, one a set; None of none."""
    return mean_of((cell.wer, cell.wer_low, cell.wer_high) for cell in cells)


def mean_paired(cells: Sequence[Cell]) -> Mean | None:
    """Mean difference to the teacher over the cells that have one."""
    pairs = [cell.against_teacher for cell in cells if cell.against_teacher is not None]
    return mean_of((pair.difference, pair.low, pair.high) for pair in pairs)


def mean_value(cells: Sequence[Cell], of: int) -> Value:
    """The mean error rate as it stands in a table; says so where it is of fewer than `of` sets."""
    found = mean(cells)
    if found is None:
        return NOTHING
    value = rate(found.value, found.low, found.high)
    return value if found.sets == of else Value(value.text, f"{value.aside} {found.sets} of {of} sets".strip())


def mean_of(known: Iterable[tuple[float, float, float]]) -> Mean | None:
    """Mean of (value, low, high) of independent sets; None where there is none that is a number."""
    known = [numbers for numbers in known if all(map(math.isfinite, numbers))]
    if not known:
        return None
    value = sum(middle for middle, _, _ in known) / len(known)
    below = math.sqrt(sum((middle - low) ** 2 for middle, low, _ in known)) / len(known)
    above = math.sqrt(sum((high - middle) ** 2 for middle, _, high in known)) / len(known)
    return Mean(value, value - below, value + above, len(known))


def noise_of(cell: Cell) -> tuple[str, float] | None:
    """(kind of noise, its signal-to-noise ratio in dB) of a condition such as `white@10`; None of any other."""
    kind, at, level = cell.condition.rpartition("@")
    if not at or (kind in NAMES and kind not in _NOISES):
        return None
    try:
        return kind, float(level)
    except ValueError:
        return None


def condition_words(condition: str) -> str:
    """A condition in words: `opus@6` is `Opus at 6 kbit/s`."""
    kind, at, level = condition.rpartition("@")
    kind = kind if at else condition
    if kind == CLEAN:
        return "as recorded"
    try:
        return Condition(condition, kind, float(level) if at else None).describe() if kind in NAMES else condition
    except (ValueError, TypeError):
        return condition
