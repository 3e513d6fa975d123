"""The HTML page: well-formed, self-contained, escaped; sections appear with their data."""

import re
import sys
from dataclasses import replace

import pytest

from whisperstill.errors import MissingExtraError
from whisperstill.evaluate.report import render_page
from whisperstill.records.eval_results import AlignmentOp, EvalResults, Failure, PairedDifference, WordAlignment

from unit.evaluate.report import builders
from unit.evaluate.report.page_reader import Node, read

FULL = (
    *("summary", "headline", "short-form", "long-form", "chunk-length", "hallucination", "robustness", "noise"),
    *("channels", "speed", "speculation", "ablation-0-max-wer", "ablation-1-subset-hours", "ablation-2-decoder-layers"),
    *(
        "ablation-3-objective",
        "ablation-4-label-smoothing",
        "error-examples",
        "subsets",
        "training",
        "failures",
        "provenance",
    ),
)
PAIR = builders.full(models=("base", "student"))
EVIL = '<script>alert("x") & $x^2$'


@pytest.fixture(scope="module")
def page() -> Node:
    """A page with every section, without audio."""
    return read(render_page(builders.full(), audio=False))


def sections(page: Node) -> list[str]:
    return [node.attributes["id"] for node in page.all("section")]


def test_every_section_is_in_the_page_and_its_contents(page: Node) -> None:
    assert tuple(sections(page)) == FULL
    links = [link.attributes["href"] for nav in page.all("nav") for link in nav.all("a")]
    assert links == [f"#{name}" for name in FULL]


def test_page_loads_nothing(page: Node) -> None:
    addresses = [
        node.attributes[name]
        for node in page.all("*")
        for name in ("href", "src", "xlink:href", "srcset", "poster", "action", "data")
        if name in node.attributes
    ]
    assert len(addresses) > 30
    assert not [address for address in addresses if not address.startswith(("#", "data:"))]
    assert not list(page.all("script"))
    styles = "".join(node.text for node in page.all("style"))
    assert "url(" not in styles and "@import" not in styles


def test_identifiers_are_unique_and_references_resolve(page: Node) -> None:
    ids = [node.attributes["id"] for node in page.all("*") if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    wanted = [node.attributes["href"][1:] for node in page.all("*") if node.attributes.get("href", "").startswith("#")]
    wanted += [name for node in page.all("*") for name in node.attributes.get("aria-labelledby", "").split()]
    wanted += [name for node in page.all("*") for name in re.findall(r"url\(#([^)]+)\)", str(node.attributes))]
    assert set(wanted) <= set(ids)


def test_charts_have_text_alternatives(page: Node) -> None:
    figures = list(page.all("figure"))
    assert len(figures) > 12
    for figure in figures:
        (picture,) = (svg for svg in figure.all("svg"))
        assert picture.attributes["role"] == "img"
        text = picture.attributes["aria-label"]
        assert any(f"{name}: " in text for name in (*builders.QUALITY, "mean WER", "base with student")), text
        assert next(figure.all("figcaption")).text


def test_tables_are_rectangular_and_labelled(page: Node) -> None:
    assert len(list(page.all("h1"))) == 1
    for table in page.all("table"):
        (head,) = table.all("thead")
        width = len(list(head.all("th")))
        for row in next(table.all("tbody")).all("tr"):
            cells = [*row.all("th"), *row.all("td")]
            assert sum(int(cell.attributes.get("colspan", "1")) for cell in cells) == width
            assert row.all("th")
    for node in page.all("div"):
        if node.attributes.get("class") == "scroll":
            assert node.attributes["tabindex"] == "0"
            assert node.attributes["aria-labelledby"]


def test_page_shows_the_figures_of_the_results() -> None:
    rendered = read(render_page(builders.alone(), audio=False))
    (table,) = (node for node in rendered.all("div") if node.attributes.get("id") == "short-form-datasets")
    assert "8.8 (7.3–10.3)" in table.text
    assert "3\u202f453" in table.text or "3 453" in table.text


def test_sections_without_data_are_left_out() -> None:
    rendered = read(render_page(builders.alone(), audio=False))
    assert sections(rendered) == ["summary", "headline", "short-form", "hallucination", "provenance"]
    assert "No teacher was measured" in rendered.text
    assert "Relative speed" not in rendered.text


@pytest.mark.parametrize(
    "eval_results",
    [
        EvalResults("nothing", {}),
        EvalResults("ablations", {}, ablations=builders.full().ablations),
        builders.full(models=("base",)),
        replace(PAIR, models=()),
        replace(PAIR, datasets=()),
        replace(PAIR, models=tuple(replace(model, role="") for model in PAIR.models)),
        builders.many(),
        replace(builders.alone(), results=(replace(builders.cell(), wer=float("inf"), wer_high=float("inf")),)),
    ],
    ids=["nothing", "ablations", "teacher", "no models", "no datasets", "no roles", "many", "infinite"],
)
def test_partial_results_make_a_well_formed_page(eval_results: EvalResults) -> None:
    rendered = read(render_page(eval_results, audio=False))
    identifiers = [node.attributes["id"] for node in rendered.all("*") if "id" in node.attributes]
    assert len(identifiers) == len(set(identifiers))
    assert not re.search(r"\b(nan|inf|None)\b", rendered.text.replace("λ = none", ""))


def test_texts_are_escaped() -> None:
    evil = builders.worst(
        id=EVIL,
        reference=EVIL,
        alignments=(WordAlignment("student", EVIL, 1, (AlignmentOp("s", "good", EVIL), AlignmentOp("i", "", EVIL))),),
    )
    eval_results = replace(
        PAIR,
        name=EVIL,
        provenance={EVIL: EVIL},
        error_examples=(evil,),
        failures=(Failure(EVIL, EVIL),),
    )
    models = tuple(replace(model, name=EVIL) if model.name == "student" else model for model in eval_results.models)
    cells = tuple(
        replace(result, model=EVIL) if result.model == "student" else result for result in eval_results.results
    )
    text = render_page(replace(eval_results, models=models, results=cells), audio=False)
    assert "<script" not in text
    rendered = read(text)
    assert next(rendered.all("h1")).text == EVIL
    assert EVIL in next(rendered.all("dl")).text
    assert any(EVIL in label.text for svg in rendered.all("svg") for label in svg.all("text")), (
        "no mathematics in charts"
    )


def test_same_results_give_the_same_page() -> None:
    assert render_page(PAIR, audio=False) == render_page(PAIR, audio=False)


def test_page_size_is_limited() -> None:
    assert len(render_page(builders.many(), audio=False)) < 2_000_000


def test_worse_student_is_called_worse(page: Node) -> None:
    (summary,) = (node for node in page.all("section") if node.attributes["id"] == "summary")
    assert "is far less accurate" in summary.text
    assert "worse" in [node.text for node in summary.all("span")]


def test_unclear_difference_is_called_unclear() -> None:
    cells = tuple(
        replace(result, difference_to_teacher=PairedDifference(0.1, -0.8, 1.1, 0.8))
        if result.difference_to_teacher
        else result
        for result in PAIR.results
    )
    text = read(render_page(replace(PAIR, results=cells), audio=False)).text
    assert "shows no clear difference in accuracy" in text
    assert "no clear difference" in text


def test_inexact_speculative_decoding_is_reported() -> None:
    other = tuple(replace(result, identical=result.utterances - 1) for result in PAIR.speculative)
    assert "Not exact: 3 of 291" in read(render_page(replace(PAIR, speculative=other), audio=False)).text


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"whisperstill\[report\]"):
        render_page(PAIR, audio=False)
