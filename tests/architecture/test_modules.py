"""Conventions of the source: module lengths and names, docstrings, no prints."""

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
def test_a_module_is_short_or_its_docstring_gives_the_reason(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    docstring = ast.get_docstring(tree_of(path)) or ""
    assert lines <= MOST_LINES or "longer than" in docstring.lower(), f"{lines} lines, and no reason in the docstring"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_has_a_docstring_and_a_specific_name(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "a module begins with a docstring"
    assert path.stem not in VAGUE


NEEDS_NO_DOCSTRING = {"property", "cached_property", "overload"}
"""Decorators of functions that may be described by their name and type."""


def undocumented(node: ast.AST, inside: str = "") -> list[str]:
    missing = []
    for child in getattr(node, "body", []):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        plain = {
            decorator.id for decorator in child.decorator_list if isinstance(decorator, ast.Name)
        } & NEEDS_NO_DOCSTRING
        if not ast.get_docstring(child) and child.name != "forward" and not plain:
            missing.append(f"{inside}{child.name}")
        if isinstance(child, ast.ClassDef):
            missing += undocumented(child, f"{child.name}.")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_public_names_have_docstrings(path: Path) -> None:
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
def test_no_target_id_marks_ignored_positions(path: Path) -> None:
    """Loss masks are boolean; no target id such as -100 marks ignored positions."""
    numbers = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and node.operand.value == 100
    ]
    assert numbers == []
