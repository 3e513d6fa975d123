"""Counts of the structure: import cycles, long and wide functions, class names used twice, untyped signatures, lines.

    python tests/architecture/counts.py [ROOT]

`test_counts.py` holds the project to them. Imports count wherever they stand: at the top, inside functions, under
`TYPE_CHECKING`; a package's `__init__` that only gathers names of its own modules is no part of a cycle.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def read_modules(package: Path) -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of a package."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text(encoding="utf-8"))
    return modules


def imports_of(tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    """The modules of the package that a module imports, at any depth."""
    targets: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            targets |= submodules or {node.module}
    return targets & modules.keys()


def import_cycles(modules: dict[str, ast.Module]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strongly connected components)."""
    graph = {name: imports_of(tree, modules) - {name} for name, tree in modules.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            component = []
            while not component or component[-1] != name:
                component.append(stack.pop())
            if len(component) > 1:
                cycles.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return cycles


def functions(modules: dict[str, ast.Module]) -> Iterator[tuple[str, FunctionNode]]:
    """Every function and method, with the name of its module and class in front."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FunctionNode):
                yield f"{prefix}.{child.name}", child
            name = f"{prefix}.{child.name}" if isinstance(child, FunctionNode | ast.ClassDef) else prefix
            yield from walk(child, name)

    for module, tree in modules.items():
        yield from walk(tree, module)


def long_functions(modules: dict[str, ast.Module]) -> list[tuple[str, int]]:
    """Functions of more than `MAX_FUNCTION_LINES` lines, with their lines."""
    lengths = [(name, (node.end_lineno or 0) - node.lineno + 1) for name, node in functions(modules)]
    return [(name, lines) for name, lines in lengths if lines > MAX_FUNCTION_LINES]


def wide_functions(modules: dict[str, ast.Module]) -> list[tuple[str, int]]:
    """Functions with more than `MAX_PARAMETERS` parameters (`self`, `cls` and autograd's `ctx` left out)."""
    found = []
    for name, node in functions(modules):
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([each for each in parameters if each.arg not in ("self", "cls", "ctx")])
        if count > MAX_PARAMETERS:
            found.append((name, count))
    return found


def repeated_class_names(modules: dict[str, ast.Module]) -> list[tuple[str, list[str]]]:
    """Class names that several modules define."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    return sorted((name, places) for name, places in homes.items() if len(places) > 1)


def untyped_signatures(modules: dict[str, ast.Module]) -> list[str]:
    """Public functions and methods with `Any` or `object` in their annotations.

    Left out: names with an underscore, functions inside functions, and methods whose signature Python prescribes
    (`__eq__`, `__exit__` ...)."""
    found = []
    for module, tree in modules.items():
        for name, node in public_functions(module, tree):
            parameters = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            annotations = [each.annotation for each in parameters if each is not None] + [node.returns]
            words = {word for each in annotations if each is not None for word in names_in(each)}
            if words & {"Any", "object"}:
                found.append(name)
    return found


def public_functions(prefix: str, node: ast.Module | ast.ClassDef) -> Iterator[tuple[str, FunctionNode]]:
    """Functions of a module and methods of its classes whose names have no underscore in front."""
    for child in node.body:
        if isinstance(child, FunctionNode | ast.ClassDef) and not child.name.startswith("_"):
            name = f"{prefix}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from public_functions(name, child)
            else:
                yield name, child


def names_in(annotation: ast.expr) -> Iterator[str]:
    """The names in an annotation; one that is a string is parsed."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "[" in node.value:
            yield from names_in(ast.parse(node.value, mode="eval").body)


def count_lines(package: Path) -> int:
    """Lines of all modules."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in package.rglob("*.py"))


def main(root: Path) -> None:
    """Print every count, and what is behind it."""
    package = root / "src" / "whisperstill"
    modules = read_modules(package)
    rows = {
        "import cycles": [" <-> ".join(cycle) for cycle in import_cycles(modules)],
        f"functions over {MAX_FUNCTION_LINES} lines": [f"{name} ({n})" for name, n in long_functions(modules)],
        f"functions of more than {MAX_PARAMETERS} parameters": [f"{name} ({n})" for name, n in wide_functions(modules)],
        "class names used twice": [f"{name}: {', '.join(homes)}" for name, homes in repeated_class_names(modules)],
        "Any or object in public signatures": untyped_signatures(modules),
    }
    for title, found in rows.items():
        print(f"{title}: {len(found)}", *(f"\n    {line}" for line in found), sep="")
    print(f"modules: {len(modules)}\nlines: {count_lines(package)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
