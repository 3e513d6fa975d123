"""The report as Markdown for GitHub: the same sections as the page, without charts and audio."""

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.audio_examples import (
    AlignmentSpan,
    describe_draft,
    describe_example,
    group_alignment_ops,
)
from whisperstill.evaluate.report.blocks import Table
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.summary import Summary, build_summary
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import EvalResults
from whisperstill.text.markdown import escape_markdown, markdown_table


def render_markdown(eval_results: EvalResults) -> str:
    """The report as a Markdown document."""
    view = ResultsView(eval_results)
    parts = [f"# {escape_markdown(eval_results.name or 'Evaluation')}"]
    if summary := build_summary(view):
        parts.append(render_summary(summary))
    for section in build_sections(view):
        parts += [f"## {escape_markdown(section.title)}", *([escape_markdown(section.lead)] if section.lead else [])]
        parts += [render_table(table, heading=len(section.tables) > 1) for table in section.tables]
        if section.special == "error_examples":
            parts.append(_render_error_examples(view))
        if section.special == "draft_traces":
            parts.append(_render_drafts(eval_results))
    return "\n\n".join(parts) + "\n"


def render_summary(summary: Summary) -> str:
    """The summary as a sentence and a list."""
    lines = [f"**{escape_markdown(summary.sentence)}**", ""]
    for tile in summary.tiles:
        aside = f" ({tile.aside.strip('()')})" if tile.aside and not tile.aside.startswith("(") else f" {tile.aside}"
        badge = f" *{tile.badge}.*" if tile.badge else ""
        figure = f"* {tile.label}: **{tile.value}**{escape_markdown(aside.rstrip())}.{badge}"
        lines.append(f"{figure} {escape_markdown(tile.sentence)}".rstrip())
    if summary.other_sentences:
        lines += ["", *(f"* {escape_markdown(sentence)}" for sentence in summary.other_sentences)]
    return "\n".join(lines)


def render_table(table: Table, *, heading: bool = True) -> str:
    """A table with title and caption; a collapsed table becomes `<details>`."""
    rows = []
    for row in table.rows:
        cells = [escape_markdown(str(cell)) for cell in row]
        if len(row) == 1 or row[0].total:
            cells[0] = f"**{cells[0]}**"
        rows.append(cells + [""] * (len(table.columns) - len(cells)))
    body = markdown_table(list(map(escape_markdown, table.columns)), rows, text_columns=range(table.text_columns))
    body += f"\n\n{escape_markdown(table.caption)}" if table.caption else ""
    title = escape_markdown(table.title)
    if table.collapsed:
        return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"
    return f"### {title}\n\n{body}" if heading else body


def _render_error_examples(view: ResultsView) -> str:
    parts = ["~~deleted~~, **+inserted**, *substituted* (reference word)"]
    for example in view.eval_results.error_examples:
        lines = [f"* reference: {escape_markdown(example.reference) or 'no speech'}"]
        for line in example.alignments:
            name, errors = escape_markdown(view.display_name(line.model)), fmt.pluralize(line.errors, "error")
            text = " ".join(map(_render_span, group_alignment_ops(line.ops))) or "(empty)"
            lines.append(f"* {name} ({errors}): {text}")
        title, facts = f"{example.reason.capitalize()}: {example.id}", describe_example(example)
        parts.append(f"**{escape_markdown(title)}** ({escape_markdown(facts)})\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _render_span(span: AlignmentSpan) -> str:
    text = escape_markdown(span.text)
    marked_up = {
        "equal": text,
        "substituted": f"*{text}* ({escape_markdown(span.reference)})",
        "deleted": f"~~{text}~~",
        "inserted": f"**+{text}**",
        "truncated": f"({text})",
    }
    return marked_up[span.kind]


def _render_drafts(eval_results: EvalResults) -> str:
    parts = ["Accepted draft tokens are plain; ~~rejected draft tokens~~ precede the teacher's **own token**."]
    for draft in eval_results.draft_traces:
        text = "".join(_render_token(token.kind, token.text, token.proposed) for token in draft.tokens)
        title = f"**{escape_markdown(draft.id)}** ({escape_markdown(draft.dataset)})"
        parts.append(f"{title}: {describe_draft(draft)}\n\n> {text.strip()}")
    return "\n\n".join(parts)


def _render_token(kind: str, text: str, proposed: str) -> str:
    leading_space = " " if text.startswith(" ") else ""
    if kind == "accepted" or not text.strip():
        return escape_markdown(text)
    struck_text = f"~~{escape_markdown(proposed.strip())}~~ " if proposed.strip() else ""
    return f"{leading_space}{struck_text}**{escape_markdown(text.strip())}**"
