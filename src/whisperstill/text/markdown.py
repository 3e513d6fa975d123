"""Markdown as GitHub renders it: tables, and text without special meaning."""

import re
from collections.abc import Collection, Sequence


def escape_markdown(text: str) -> str:
    """The text on one line, with every character escaped that Markdown or HTML would interpret."""
    text = " ".join(text.splitlines())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\*|\[\]~`])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Collection[int] = (0,)
) -> str:
    """A table with a header. Columns are aligned to the right, except `text_columns`. Cells are Markdown; a bare `|`
    in a cell is escaped."""
    rule = ["---" if index in text_columns else "---:" for index in range(len(columns))]
    header = [column or " " for column in columns]
    lines = (header, rule, *([re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
