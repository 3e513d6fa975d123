"""How the report writes figures and conditions: one decimal for a rate, intervals in brackets, `–` for not measured."""

import math
import re
from collections.abc import Sequence

from whisperstill.audio.conditions import Condition
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Cell
from whisperstill.records.eval_results import DatasetResult, SubsetResult

MINUS_SIGN, THIN_SPACE = "−", "\u202f"


def number(value: float | None, digits: int = 1) -> str:
    """A number with this many decimals and a thin space between thousands: `12 345.6`."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED.text
    text = f"{value:z,.{digits}f}"
    return text.replace(",", THIN_SPACE).replace("-", MINUS_SIGN)


def count(value: float) -> str:
    """A whole number: `1 234`."""
    return number(value, 0)


def signed(value: float, digits: int = 1) -> str:
    """A signed number: `+4.5`, `−0.3`, `0.0`."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def rate(value: float, low: float, high: float) -> Cell:
    """A rate with its interval: `8.8 (7.3–10.3)`."""
    interval = f"({number(low)}–{number(high)})" if math.isfinite(value + low + high) else ""
    return Cell(number(value), interval)


def wer(result: DatasetResult | SubsetResult | None) -> Cell:
    """The word error rate of a result with its interval; `–` without a result."""
    return rate(result.wer, result.wer_low, result.wer_high) if result else NOT_MEASURED


def difference(value: float, low: float, high: float, digits: int = 1) -> Cell:
    """A difference with its interval, if that is finite: `+4.5 (+3.4 to +5.7)`."""
    finite = math.isfinite(value + low + high)
    interval = f"({signed(low, digits)} to {signed(high, digits)})" if finite else ""
    return Cell(signed(value, digits), interval)


def ratio(value: float | None, digits: int | None = None) -> str:
    """A ratio: `1.6×`; without decimals from 10 on, unless `digits` are given."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED.text
    return f"{number(value, digits or (0 if value >= 10 else 1))}×"


def millions(value: int) -> str:
    """A parameter count in millions: `55.8`; without decimals from 1000 on."""
    return number(value / 1e6, 1 if value < 999.5e6 else 0) if value else NOT_MEASURED.text


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """A count with its noun: `1 loop`, `3 loops`."""
    return f"{count(number)} {singular if number == 1 else plural or singular + 's'}"


def join(names: Sequence[str]) -> str:
    """An enumeration: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def condition(condition: str) -> str:
    """An audio condition in words: `Opus at 6 kbit/s` for `opus@6`; an invalid condition unchanged."""
    kind, separator, level = condition.rpartition("@")
    try:
        description = Condition(condition, kind or level, float(level) if separator else None).describe()
        return re.sub(r"(?<= )-(?=\d)", MINUS_SIGN, description)
    except (ValueError, TypeError):
        return condition
