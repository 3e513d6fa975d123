"""Counts of the structure: cycles, long and wide functions, repeated classes, untyped signatures, placeholders, lines.

    python tests/architecture/counts.py [ROOT]

`test_counts.py` sets their upper bounds. Imports count at the top of a module, inside functions and under
`TYPE_CHECKING`; a package's `__init__` that only re-exports names of its modules is not part of a cycle.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
PLACEHOLDER_NAMES = {"one", "found", "at", "each"}
"""Names of variables that fit any value, and so describe none."""

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
    counts = []
    for name, node in functions(modules):
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [parameter.arg for parameter in parameters if parameter.arg not in ("self", "cls", "ctx")]
        counts.append((name, len(names)))
    return [(name, count) for name, count in counts if count > MAX_PARAMETERS]


def repeated_class_names(modules: dict[str, ast.Module]) -> list[tuple[str, list[str]]]:
    """Class names that several modules define."""
    modules_by_class: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                modules_by_class[node.name].append(module)
    return sorted((name, defining) for name, defining in modules_by_class.items() if len(defining) > 1)


def untyped_signatures(modules: dict[str, ast.Module]) -> list[str]:
    """Public functions, methods, fields of classes and module constants annotated with `Any`, `object` or an alias.

    An alias counts if its value names `Any` or `object`, directly or through other aliases, in any module. Left out:
    names with an underscore, functions inside functions, and methods whose signature Python prescribes (`__eq__`,
    `__exit__` ...).
    """
    untyped_names = {"Any", "object"}
    values_by_alias = [(alias, set(names_in(value))) for tree in modules.values() for alias, value in aliases(tree)]
    while more := {alias for alias, names in values_by_alias if names & untyped_names} - untyped_names:
        untyped_names |= more
    return [
        name
        for module, tree in modules.items()
        for name, annotations in public_annotations(module, tree)
        if untyped_names & {word for annotation in annotations for word in names_in(annotation)}
    ]


def aliases(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Name and value of every alias of a module: `X: TypeAlias = ...`, `X = ...`, `type X = ...`."""
    type_expressions = ast.Name | ast.Attribute | ast.Subscript | ast.BinOp
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, type_expressions):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif is_type_alias(node):
            yield node.target.id, node.value
        elif type(node).__name__ == "TypeAlias":  # `type X = ...`, from Python 3.12
            yield node.name.id, node.value


def is_type_alias(node: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    """Whether a statement is `X: TypeAlias = ...`."""
    return isinstance(node, ast.AnnAssign) and "TypeAlias" in names_in(node.annotation)


def public_annotations(prefix: str, node: ast.Module | ast.ClassDef) -> Iterator[tuple[str, list[ast.expr]]]:
    """Annotations of functions, fields and constants of a module or class whose names have no underscore in front."""
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and not is_type_alias(child):
            if not child.target.id.startswith("_"):
                yield f"{prefix}.{child.target.id}", [child.annotation]
        elif isinstance(child, FunctionNode | ast.ClassDef) and not child.name.startswith("_"):
            name = f"{prefix}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from public_annotations(name, child)
            else:
                parameters = [parameter for parameter in ast.walk(child.args) if isinstance(parameter, ast.arg)]
                annotations = [*(parameter.annotation for parameter in parameters), child.returns]
                yield name, [annotation for annotation in annotations if annotation is not None]


def names_in(annotation: ast.expr) -> Iterator[str]:
    """The names in an annotation; one that is a string is parsed."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and set("[|") & set(node.value):
            yield from names_in(ast.parse(node.value, mode="eval").body)


def placeholder_names(modules: dict[str, ast.Module]) -> list[str]:
    """Variables, parameters and functions with a name of `PLACEHOLDER_NAMES`, once per module and line."""
    places = set()
    for module, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in PLACEHOLDER_NAMES:
                places.add((module, node.lineno, node.id))
            elif isinstance(node, ast.arg) and node.arg in PLACEHOLDER_NAMES:
                places.add((module, node.lineno, node.arg))
            elif isinstance(node, FunctionNode) and node.name in PLACEHOLDER_NAMES:
                places.add((module, node.lineno, node.name))
    return [f"{module}:{line} {name}" for module, line, name in sorted(places)]


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
        "class names used twice": [f"{name}: {', '.join(names)}" for name, names in repeated_class_names(modules)],
        "Any or object in public signatures": untyped_signatures(modules),
        "placeholder names in src, bench and tests": placeholder_names(
            modules | read_modules(root / "bench") | read_modules(root / "tests")
        ),
    }
    for title, lines in rows.items():
        print(f"{title}: {len(lines)}", *(f"\n    {line}" for line in lines), sep="")
    print(f"modules: {len(modules)}\nlines: {count_lines(package)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
