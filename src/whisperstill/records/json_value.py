"""Types of JSON values."""

from typing import Any, TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
"""What `json.loads` returns."""
JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose values the caller checks."""
