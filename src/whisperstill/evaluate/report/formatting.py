"""How the report writes figures and conditions: one decimal for a rate, intervals in brackets, `–` for not measured."""

import math

from whisperstill.audio.conditions import CONDITION_KINDS, Condition
from whisperstill.evaluate.report.blocks import NOT_MEASURED, TableCell
from whisperstill.records.eval_results import DatasetResult, SubsetResult

MINUS_SIGN, THIN_SPACE = "−", "\u202f"

CLEAN_CONDITION = "clean"
"""Condition of unmodified audio that was measured beside corrupted audio."""


def format_number(value: float | None, digits: int = 1) -> str:
    """A number with this many decimals and a thin space between thousands: `12 345.6`."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED.text
    text = f"{value:,.{digits}f}".replace(",", THIN_SPACE).replace("-", MINUS_SIGN)
    return text[1:] if text.startswith(MINUS_SIGN) and not any(digit in text for digit in "123456789") else text


def format_count(value: float) -> str:
    """A whole number: `1 234`."""
    return format_number(value, 0)


def format_signed(value: float, digits: int = 1) -> str:
    """A signed number: `+4.5`, `−0.3`, `0.0`."""
    text = format_number(value, digits)
    if text.startswith((MINUS_SIGN, NOT_MEASURED.text)) or not any(digit in text for digit in "123456789"):
        return text
    return f"+{text}"


def format_rate(value: float, low: float, high: float) -> TableCell:
    """A rate with its interval: `8.8 (7.3–10.3)`."""
    interval = f"({format_number(low)}–{format_number(high)})" if math.isfinite(value + low + high) else ""
    return TableCell(format_number(value), interval)


def format_wer(result: DatasetResult | SubsetResult | None) -> TableCell:
    """The word error rate of a result with its interval; `–` without a result."""
    return format_rate(result.wer, result.wer_low, result.wer_high) if result else NOT_MEASURED


def format_difference(value: float, low: float, high: float, digits: int = 1) -> TableCell:
    """A difference with its interval: `+4.5 (+3.4 to +5.7)`."""
    interval = f"({format_signed(low, digits)} to {format_signed(high, digits)})" if math.isfinite(value) else ""
    return TableCell(format_signed(value, digits), interval)


def format_ratio(value: float | None) -> str:
    """A ratio: `1.6×`; without decimals from 10 on."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED.text
    return f"{format_number(value, 0 if value >= 10 else 1)}×"


def format_millions(value: int) -> str:
    """A parameter count in millions: `55.8`; without decimals from 1000 on."""
    return format_number(value / 1e6, 1 if value < 999.5e6 else 0) if value else NOT_MEASURED.text


def format_p_value(p: float) -> str:
    """A p-value: `0.03`, `< 0.002`."""
    return "< 0.002" if p < 0.002 else f"{p:.2g}"


def pluralize(number: int, singular: str, plural_form: str = "") -> str:
    """A count with its noun: `1 loop`, `3 loops`."""
    return f"{format_count(number)} {singular if number == 1 else plural_form or singular + 's'}"


def join_names(names: list[str]) -> str:
    """An enumeration: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def describe_condition(condition: str) -> str:
    """An audio condition in words: `Opus at 6 kbit/s` for `opus@6`; an unknown condition unchanged."""
    kind, separator, level = condition.rpartition("@")
    kind = kind if separator else condition
    if kind == CLEAN_CONDITION:
        return "clean"
    if kind not in CONDITION_KINDS:
        return condition
    try:
        return Condition(condition, kind, float(level) if separator else None).describe()
    except (ValueError, TypeError):
        return condition
