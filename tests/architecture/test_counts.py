"""Upper bounds for the counts of the structure (counts.py). A bound never goes up."""

from pathlib import Path

import counts
import pytest

BOUNDS = {
    "import cycles": 0,
    "long functions": 0,
    "wide functions": 0,
    "class names used twice": 0,
    "untyped signatures": 0,
}


@pytest.fixture(scope="module")
def measured(root: Path) -> dict[str, list[str]]:
    modules = counts.read_modules(root / "src" / "whisperstill")
    return {
        "import cycles": [" <-> ".join(cycle) for cycle in counts.import_cycles(modules)],
        "long functions": [f"{name} ({lines} lines)" for name, lines in counts.long_functions(modules)],
        "wide functions": [f"{name} ({count} parameters)" for name, count in counts.wide_functions(modules)],
        "class names used twice": [f"{name}: {places}" for name, places in counts.repeated_class_names(modules)],
        "untyped signatures": counts.untyped_signatures(modules),
    }


@pytest.mark.parametrize("count", BOUNDS)
def test_a_count_is_within_its_bound(count: str, measured: dict[str, list[str]]) -> None:
    found = measured[count]
    assert len(found) <= BOUNDS[count], f"{len(found)} {count}, at most {BOUNDS[count]}:\n" + "\n".join(found)


def test_the_counts_can_fail() -> None:
    """Every count sees what it counts, in a package made for that."""
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
