"""The report as Markdown."""

import re
from dataclasses import replace

import pytest

from whisperstill.evaluate.report import render_markdown
from whisperstill.evaluate.report.blocks import Cell, Table
from whisperstill.evaluate.report.markdown import render_table
from whisperstill.evaluate.report.sections import build_sections
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import EvalResults
from whisperstill.text.markdown import escape_markdown

from unit.evaluate.report import builders


def tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every table."""
    all_rows, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            assert line.endswith(" |")
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            all_rows.append(rows)
            rows = []
    return all_rows


@pytest.mark.parametrize(
    "eval_results",
    [builders.full(), builders.many(), builders.alone(), builders.full(models=("base",)), EvalResults("nothing", {})],
    ids=["full", "many", "alone", "teacher", "nothing"],
)
def test_tables_are_well_formed(eval_results: EvalResults) -> None:
    text = render_markdown(eval_results)
    all_tables = tables(text)
    assert len(all_tables) == sum(len(section.tables) for section in build_sections(ResultsView(eval_results)))
    for rows in all_tables:
        assert [cell for cell in rows[1] if not re.fullmatch(r"---:?", cell)] == []
        assert len({len(cells) for cells in rows}) == 1
        assert len(rows) > 2
    assert text.count("<details>") == text.count("</details>")
    assert text.endswith("\n") and "\n\n\n" not in text


def test_figures_are_those_of_the_results() -> None:
    text = render_markdown(builders.alone())
    assert "| mini-test | 3\u202f453 | 8.8 (7.3–10.3) |" in text


def test_every_section_has_a_heading() -> None:
    text = render_markdown(builders.full())
    for section in build_sections(ResultsView(builders.full())):
        assert f"## {section.title}\n" in text


def test_error_examples_and_drafts_are_marked_up() -> None:
    text = render_markdown(builders.full())
    assert "well *breaded* (bred) from the **+very** beginning ~~and~~ knows it" in text
    assert "been ~~all~~ **well**" in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<script>", "&lt;script&gt;"),
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("*_~`[x]", "\\*\\_\\~\\`\\[x\\]"),
        ("max_wer stays", "max_wer stays"),
        ("_so_", "\\_so\\_"),
    ],
)
def test_markdown_is_escaped(text: str, written: str) -> None:
    assert escape_markdown(text) == written


def test_group_rows_total_rows_and_collapsed_tables() -> None:
    columns = [("Name", lambda item: item[0]), ("N", lambda item: item[1]), ("Empty", lambda item: "")]
    groups = {"Group": [("a", "1"), (Cell("all", total=True), "2")], "Without rows": []}
    table = Table.build("id", "Title", columns, groups, "Caption.", collapsed=True)
    written = render_table(table)
    assert written == (
        "<details>\n<summary>Title</summary>\n\n| Name | N |\n| --- | ---: |\n| **Group** |  |\n| a | 1 |\n"
        "| **all** | 2 |\n\nCaption.\n\n</details>"
    )


def test_models_with_the_same_base_name_keep_their_paths() -> None:
    eval_results = builders.full(models=("base", "student"))
    names = {"base": "openai/base", "student": "mine/base"}
    models = tuple(replace(model, name=names[model.name]) for model in eval_results.models)
    cells = tuple(replace(result, model=names[result.model]) for result in eval_results.results)
    text = render_markdown(replace(eval_results, models=models, results=cells, speeds=(), speculative=()))
    assert "| openai/base | mine/base |" in text
