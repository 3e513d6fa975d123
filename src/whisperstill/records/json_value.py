"""The type of a parsed JSON document."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
