"""Import contracts: layers, light packages, and optional libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = SOURCE / "whisperstill"
MODULES = sorted(PACKAGE.rglob("*.py"))
LIGHT = ("records", "text", "pipeline", "stages", "api", "console", "versions", "cli")
OPTIONAL = {
    "matplotlib",
    "tensorboard",
    "datasets",
    "transformers",
    "faster_whisper",
    "pandas",
    "ctranslate2",
    "pywhispercpp",
    "silero_vad",
    "pyroomacoustics",
    "jinja2",
}
WITH_TENSORS = {
    "whisperstill.records.loss_sums",
}
"""Modules of light packages that are imported when there is something to compute."""
HEAVY = {"torch", "numpy", "transformers", "pyarrow", "matplotlib"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> set[str]:
    """First names of what is imported anywhere below a node."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def at_import(tree: ast.Module) -> set[str]:
    """First names of what is imported when the module is (not what functions import, nor what types need)."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        names |= imported(node)
    return names


def loaded_after(code: str) -> set[str]:
    """First names of the modules that a fresh interpreter has after running `code`."""
    script = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_layers_point_downward() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=SOURCE.parent, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["errors", "units", *LIGHT])
def test_light_packages_load_no_torch(package: str) -> None:
    names = [
        module_name(path)
        for path in MODULES
        if path.relative_to(PACKAGE).with_suffix("").parts[0] == package and module_name(path) not in WITH_TENSORS
    ]
    assert names
    assert "torch" not in loaded_after("\n".join(f"import {name}" for name in names))


def test_the_check_for_torch_can_fail() -> None:
    assert "torch" in loaded_after("import whisperstill.model.whisper")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after("import whisperstill") & (HEAVY | {"tyro", "rich"})


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_optional_libraries_are_imported_inside_functions_of_their_own_file(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not at_import(tree) & OPTIONAL, "an optional library is imported when it is used, not before"
    used = imported(tree) & OPTIONAL
    homes = {
        "matplotlib": "plot",
        "tensorboard": "tensorboard",
        "datasets": "huggingface",
        "ctranslate2": "ctranslate2",
        "silero_vad": "silero",
        "transformers": "transformers",
        "faster_whisper": "faster_whisper",
        "pywhispercpp": "whispercpp",
        "pyroomacoustics": "reverberation",
        "jinja2": "page",
    }
    for library in used:
        assert library in homes, f"{library} is for the tests only"
        assert homes[library] in path.stem, f"{library} is imported only in a file whose name says {homes[library]}"


def test_the_check_for_optional_libraries_can_fail() -> None:
    assert at_import(ast.parse("try:\n    import matplotlib\nexcept ImportError:\n    pass")) & OPTIONAL
    assert not at_import(ast.parse("def plot():\n    import matplotlib")) & OPTIONAL


@pytest.mark.parametrize("library", ["tyro", "rich"])
def test_only_the_command_line_imports_its_libraries(library: str) -> None:
    knowing = {
        path.relative_to(PACKAGE).parts[0] for path in MODULES if library in imported(ast.parse(path.read_text()))
    }
    assert knowing == {"cli"}
