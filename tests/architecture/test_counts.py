"""Upper bounds for the counts of the structure (counts.py). A bound never goes up."""

import sys
from pathlib import Path

import counts
import pytest

BOUNDS = {
    "import cycles": 0,
    "long functions": 0,
    "wide functions": 0,
    "class names used twice": 0,
    "untyped signatures": 0,
    "placeholder names": 0,
}


@pytest.fixture(scope="module")
def measured(root: Path) -> dict[str, list[str]]:
    modules = counts.read_modules(root / "src" / "whisperstill")
    return {
        "import cycles": [" <-> ".join(cycle) for cycle in counts.import_cycles(modules)],
        "long functions": [f"{name} ({lines} lines)" for name, lines in counts.long_functions(modules)],
        "wide functions": [f"{name} ({count} parameters)" for name, count in counts.wide_functions(modules)],
        "class names used twice": [f"{name}: {defining}" for name, defining in counts.repeated_class_names(modules)],
        "untyped signatures": counts.untyped_signatures(modules),
        "placeholder names": counts.placeholder_names(
            modules | counts.read_modules(root / "bench") | counts.read_modules(root / "tests")
        ),
    }


@pytest.mark.parametrize("count", BOUNDS)
def test_a_count_is_within_its_bound(count: str, measured: dict[str, list[str]]) -> None:
    lines = measured[count]
    assert len(lines) <= BOUNDS[count], f"{len(lines)} {count}, at most {BOUNDS[count]}:\n" + "\n".join(lines)


def test_the_counts_can_fail() -> None:
    """Every count finds its defect in a package written for this test."""
    body = "\n".join("    x = 1" for _ in range(counts.MAX_FUNCTION_LINES + 1))
    parameters = ", ".join(f"p{number}" for number in range(counts.MAX_PARAMETERS + 1))
    sources = {
        "p.a": f"from p import b\nclass Twin: ...\ndef long() -> None:\n{body}\n",
        "p.b": f"from p import a\nclass Twin: ...\ndef wide({parameters}): ...\ndef loose(x: object): ...",
        "p": "",
    }
    modules = {name: counts.ast.parse(source) for name, source in sources.items()}
    assert counts.import_cycles(modules) == [["p.a", "p.b"]]
    assert [name for name, _ in counts.long_functions(modules)] == ["p.a.long"]
    assert [name for name, _ in counts.wide_functions(modules)] == ["p.b.wide"]
    assert [name for name, _ in counts.repeated_class_names(modules)] == ["Twin"]
    assert counts.untyped_signatures(modules) == ["p.b.loose"]


def test_placeholder_names_are_counted() -> None:
    """Variables, parameters and functions count; attributes and keywords do not."""
    source = """
def each(found: int) -> int:
    return sum(one for one in range(found))
reader.at = parse(found=[row.at for row in rows])
"""
    assert counts.placeholder_names({"p": counts.ast.parse(source)}) == [
        "p:2 each",
        "p:2 found",
        "p:3 found",
        "p:3 one",
    ]


def test_an_alias_does_not_hide_any() -> None:
    """Aliases in every spelling, in another module, through another alias and in quotes; fields and constants too."""
    sources = {
        "p.aliases": "Content: TypeAlias = Any\nTable = dict[str, Content]\n_Hook = Callable[[object], int]\nx = 1",
        "p.users": """
def read() -> Content: ...
def merge(tables: list["Table"], base: "Content | None") -> None: ...
def structure(hook: _Hook) -> None: ...
def typed(rows: dict[str, int]) -> int: ...
def _private(content: Content) -> None: ...
class Stage:
    settings: Content
    output: Path
    _cache: Any
    def run(self, settings: Table) -> None: ...
class Tracker(Protocol):
    last: object
MEASURE: dict[str, Any] = {}
""",
    }
    modules = {name: counts.ast.parse(source) for name, source in sources.items()}
    names = ["read", "merge", "structure", "Stage.settings", "Stage.run", "Tracker.last", "MEASURE"]
    assert counts.untyped_signatures(modules) == [f"p.users.{name}" for name in names]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement `type` is new in Python 3.12")
def test_a_type_statement_does_not_hide_any() -> None:
    modules = {"p": counts.ast.parse("type Content = Any\ndef read() -> Content: ...")}
    assert counts.untyped_signatures(modules) == ["p.read"]
