"""Types of JSON values."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
"""What `json.loads` returns and `json.dumps` takes."""
JsonObject: TypeAlias = dict[str, JsonValue]
