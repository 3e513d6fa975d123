"""The report's tables as Markdown, as GitHub shows it: the same blocks as the page, without charts and sound."""

import re

from whisperstill.evaluate.report.blocks import Row, Section, Table, Value
from whisperstill.evaluate.report.listening import Piece, clips, draft_facts
from whisperstill.evaluate.report.sections import sections
from whisperstill.evaluate.report.verdict import Verdict, verdict
from whisperstill.evaluate.report.view import View
from whisperstill.records.findings import Findings


def render_markdown(findings: Findings) -> str:
    """The report as a Markdown document."""
    view = View(findings)
    parts = [f"# {escaped(findings.name or 'Evaluation')}"]
    first = verdict(view)
    if first:
        parts.append(verdict_markdown(first))
    for section in sections(view):
        parts += [f"## {escaped(section.title)}", *([escaped(section.lead)] if section.lead else [])]
        parts += [table_markdown(table, heading=_needs_heading(section)) for table in section.tables]
        if section.kind == "worst":
            parts += [_worst(view)]
        if section.kind == "drafts":
            parts += [_drafts(findings)] if findings.drafts else []
    return "\n\n".join(parts) + "\n"


def _needs_heading(section: Section) -> bool:
    return len(section.tables) > 1


def verdict_markdown(found: Verdict) -> str:
    """The verdict as a sentence and a list."""
    lines = [f"**{escaped(found.sentence)}**", ""]
    for tile in found.tiles:
        aside = f" ({tile.aside.strip('()')})" if tile.aside and not tile.aside.startswith("(") else f" {tile.aside}"
        badge = f" *{tile.badge}.*" if tile.badge else ""
        lines.append(
            f"* {tile.label}: **{tile.value}**{escaped(aside.rstrip())}.{badge} {escaped(tile.sentence)}".rstrip()
        )
    lines += ["", *(f"* {escaped(other)}" for other in found.others)] if found.others else []
    return "\n".join(lines)


def table_markdown(table: Table, *, heading: bool = True) -> str:
    """A table, its title and its caption; a folded table stays folded."""
    heads = "| " + " | ".join(escaped(column.title) or " " for column in table.columns) + " |"
    rule = "| " + " | ".join("---:" if column.numeric else "---" for column in table.columns) + " |"
    lines = [heads, rule, *(_row(row, len(table.columns)) for row in table.rows)]
    body = "\n".join(lines)
    caption = f"\n\n{escaped(table.caption)}" if table.caption else ""
    if table.folded:
        title = escaped(table.title)
        return f"<details>\n<summary>{title}</summary>\n\n{body}{caption}\n\n</details>"
    return (f"### {escaped(table.title)}\n\n" if heading else "") + body + caption


def _row(row: Row, width: int) -> str:
    if row.kind == "group":
        cells = [f"**{_cell(row.values[0])}**", *[""] * (width - 1)]
    elif row.kind == "total":
        cells = [f"**{_cell(row.values[0])}**", *map(_cell, row.values[1:])]
    else:
        cells = list(map(_cell, row.values))
    return "| " + " | ".join(cells) + " |"


def _cell(value: Value) -> str:
    return escaped(str(value))


def escaped(text: str) -> str:
    """Text that Markdown and HTML take literally, on one line."""
    text = " ".join(text.splitlines())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\*|\[\]~`])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def _worst(view: View) -> str:
    parts = []
    for one in clips(view, audio=False):
        lines = [f"* reference: {escaped(one.reference)}" if one.reference else "* reference: nothing is said"]
        lines += [f"* {escaped(line.name)} ({line.errors}): {_aligned(line.pieces)}" for line in one.lines]
        parts.append(f"**{escaped(one.title)}** ({escaped(one.facts)})\n\n" + "\n".join(lines))
    legend = "~~left out~~, **+made up**, *heard* (for what was said)"
    return f"{legend}\n\n" + "\n\n".join(parts)


def _aligned(pieces: tuple[Piece, ...]) -> str:
    written = {
        "equal": lambda piece: escaped(piece.text),
        "substituted": lambda piece: f"*{escaped(piece.text)}* ({escaped(piece.said)})",
        "deleted": lambda piece: f"~~{escaped(piece.text)}~~",
        "inserted": lambda piece: f"**+{escaped(piece.text)}**",
        "cut": lambda piece: f"({escaped(piece.text)})",
    }
    return " ".join(written[piece.kind](piece) for piece in pieces) or "nothing"


def _drafts(findings: Findings) -> str:
    parts = ["Accepted proposals as they are, ~~wrong proposals~~ before the teacher's **own word**."]
    for draft in findings.drafts:
        text = "".join(_token(token.kind, token.text, token.proposed) for token in draft.tokens)
        parts.append(f"**{escaped(draft.id)}** ({escaped(draft.set)}): {draft_facts(draft)}\n\n> {text.strip()}")
    return "\n\n".join(parts)


def _token(kind: str, text: str, proposed: str) -> str:
    before = " " if text.startswith(" ") else ""
    if kind == "accepted" or not text.strip():
        return escaped(text)
    struck = f"~~{escaped(proposed.strip())}~~ " if proposed.strip() else ""
    return f"{before}{struck}**{escaped(text.strip())}**"
