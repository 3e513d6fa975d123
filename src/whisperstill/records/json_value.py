"""Types of JSON values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    JsonValue: TypeAlias = bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
else:  # checkers at runtime resolve no recursive alias
    JsonValue = bool | int | float | str | Sequence | Mapping | None
"""What `json.loads` returns and `json.dumps` takes."""
JsonObject: TypeAlias = dict[str, JsonValue]
