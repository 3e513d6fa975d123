"""Habits of the house that a machine can check."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "whisperstill"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]
MOST_LINES = 350
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_is_short_or_says_why_not(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    docstring = ast.get_docstring(tree_of(path)) or ""
    assert lines <= MOST_LINES or "longer than" in docstring.lower(), f"{lines} lines, and no reason in the docstring"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_says_what_it_is_and_is_named_after_it(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "a module begins with a docstring"
    assert path.stem not in VAGUE


SPEAKS_FOR_ITSELF = {"property", "cached_property", "overload"}
"""Decorators of what a name and a type may say well enough."""


def undocumented(node: ast.AST, inside: str = "") -> list[str]:
    missing = []
    for child in getattr(node, "body", []):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        plain = {
            decorator.id for decorator in child.decorator_list if isinstance(decorator, ast.Name)
        } & SPEAKS_FOR_ITSELF
        if not ast.get_docstring(child) and child.name != "forward" and not plain:
            missing.append(f"{inside}{child.name}")
        if isinstance(child, ast.ClassDef):
            missing += undocumented(child, f"{child.name}.")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_what_is_public_has_a_docstring(path: Path) -> None:
    assert undocumented(tree_of(path)) == []


def test_the_check_for_docstrings_can_fail() -> None:
    assert undocumented(ast.parse("class Thing:\n    'It.'\n    def public(self): ...")) == ["Thing.public"]


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_module_prints(path: Path) -> None:
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in {call.func.id for call in calls if isinstance(call.func, ast.Name)}


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_modules_with_shapes_keep_their_annotations(path: Path) -> None:
    """With postponed annotations beartype would see strings, and shapes would not be checked."""
    imports = [node for node in tree_of(path).body if isinstance(node, ast.ImportFrom)]
    assert not any(node.module == "__future__" for node in imports)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent.name in ("records", "distill", "label")],
    ids=lambda path: path.name,
)
def test_there_is_no_minus_hundred(path: Path) -> None:
    """What is scored is a boolean mask; no target id has a second meaning."""
    numbers = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and node.operand.value == 100
    ]
    assert numbers == []
