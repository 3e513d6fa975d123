"""How figures are written: one digit for a rate, its interval in brackets, a true minus, `–` for what is not known."""

import math

from whisperstill.evaluate.report.blocks import NOTHING, Value

MINUS, TO, THIN = "−", "–", "\u202f"


def figure(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals, thousands apart: `12 345.6`."""
    if value is None or not math.isfinite(value):
        return NOTHING.text
    text = f"{value:,.{digits}f}".replace(",", THIN).replace("-", MINUS)
    return text[1:] if text.startswith(MINUS) and not any(digit in text for digit in "123456789") else text


def count(value: float) -> str:
    """A whole number: `1 234`."""
    return figure(value, 0)


def signed(value: float, digits: int = 1) -> str:
    """A difference: `+4.5`, `−0.3`, `0.0`."""
    text = figure(value, digits)
    return text if text.startswith((MINUS, NOTHING.text)) or not any(d in text for d in "123456789") else f"+{text}"


def rate(value: float, low: float | None = None, high: float | None = None, digits: int = 1) -> Value:
    """A rate with its interval: `8.8 (7.3–10.3)`."""
    if not math.isfinite(value):
        return NOTHING
    if low is None or high is None or not math.isfinite(low + high):
        return Value(figure(value, digits))
    return Value(figure(value, digits), f"({figure(low, digits)}{TO}{figure(high, digits)})")


def difference(value: float, low: float, high: float, digits: int = 1) -> Value:
    """A difference with its interval: `+4.5 (+3.4 to +5.7)`."""
    if not math.isfinite(value):
        return NOTHING
    return Value(signed(value, digits), f"({signed(low, digits)} to {signed(high, digits)})")


def times(value: float | None) -> str:
    """A ratio: `1.6×`; from 10 on without decimals."""
    return NOTHING.text if value is None or not math.isfinite(value) else f"{figure(value, 0 if value >= 10 else 1)}×"


def millions(value: int) -> str:
    """Parameters in millions: `55.8`, from 1000 on without decimals."""
    return figure(value / 1e6, 1 if value < 999.5e6 else 0) if value else NOTHING.text


def chance(p: float) -> str:
    """A p-value: `0.03`, `< 0.002`."""
    return f"< {0.002:g}" if p < 0.002 else f"{p:.2g}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 loop`, `3 loops`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def one_of(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
