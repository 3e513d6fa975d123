"""How figures are written: one digit for a rate, its interval in brackets, a true minus, `–` for what is not known."""

import math

from whisperstill.evaluate.report.blocks import NOT_MEASURED, TableCell

MINUS_SIGN, EN_DASH, THIN_SPACE = "−", "–", "\u202f"


def format_number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals, thousands apart: `12 345.6`."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED.text
    text = f"{value:,.{digits}f}".replace(",", THIN_SPACE).replace("-", MINUS_SIGN)
    return text[1:] if text.startswith(MINUS_SIGN) and not any(digit in text for digit in "123456789") else text


def format_count(value: float) -> str:
    """A whole number: `1 234`."""
    return format_number(value, 0)


def format_signed(value: float, digits: int = 1) -> str:
    """A difference: `+4.5`, `−0.3`, `0.0`."""
    text = format_number(value, digits)
    return (
        text
        if text.startswith((MINUS_SIGN, NOT_MEASURED.text)) or not any(digit in text for digit in "123456789")
        else f"+{text}"
    )


def format_rate(value: float, low: float | None = None, high: float | None = None, digits: int = 1) -> TableCell:
    """A rate with its interval: `8.8 (7.3–10.3)`."""
    if not math.isfinite(value):
        return NOT_MEASURED
    if low is None or high is None or not math.isfinite(low + high):
        return TableCell(format_number(value, digits))
    return TableCell(
        format_number(value, digits), f"({format_number(low, digits)}{EN_DASH}{format_number(high, digits)})"
    )


def format_difference(value: float, low: float, high: float, digits: int = 1) -> TableCell:
    """A difference with its interval: `+4.5 (+3.4 to +5.7)`."""
    if not math.isfinite(value):
        return NOT_MEASURED
    return TableCell(format_signed(value, digits), f"({format_signed(low, digits)} to {format_signed(high, digits)})")


def format_ratio(value: float | None) -> str:
    """A ratio: `1.6×`; from 10 on without decimals."""
    return (
        NOT_MEASURED.text
        if value is None or not math.isfinite(value)
        else f"{format_number(value, 0 if value >= 10 else 1)}×"
    )


def format_millions(value: int) -> str:
    """Parameters in millions: `55.8`, from 1000 on without decimals."""
    return format_number(value / 1e6, 1 if value < 999.5e6 else 0) if value else NOT_MEASURED.text


def format_p_value(p: float) -> str:
    """A p-value: `0.03`, `< 0.002`."""
    return f"< {0.002:g}" if p < 0.002 else f"{p:.2g}"


def pluralize(number: int, singular: str, plural_form: str = "") -> str:
    """`1 loop`, `3 loops`."""
    return f"{format_count(number)} {singular if number == 1 else plural_form or singular + 's'}"


def join_names(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
