"""What `import whisperstill` offers: every verb as a typed function, all settings, reports and errors."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import whisperstill
from whisperstill import api
from whisperstill.cli.verbs import VERBS
from whisperstill.console import SILENT, NullConsole
from whisperstill.stages import load_verb

USER_CODE = """
from pathlib import Path
import whisperstill as ws
from whisperstill import Transcriber, TrainReport
transcriber: Transcriber = ws.load("tiny.en")
words: list[str] = [word.word for segment in transcriber.transcribe("a.flac").segments for word in segment.words or ()]
labels = ws.label(ws.LabelSettings(teacher="base", manifest=("speech",), output=Path("labels")))
kept: int = ws.filter(ws.FilterSettings(labels=Path(labels.output), output=Path("kept"))).kept
weights: int = ws.init(ws.InitSettings(teacher="base", output=Path("init"))).student_parameters
trained: TrainReport = ws.train(ws.TrainSettings(student=Path("init"), labels=Path("kept"), output=Path("student")))
size: int = ws.export(ws.ExportSettings(model="student", output=Path("ct2"), format="ctranslate2")).bytes
finished: bool = ws.run(ws.RunSettings(recipe=Path("recipe.toml")), ws.NullConsole()).finished
"""


def mypy(code: str, root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """mypy --strict on a user's file."""
    (folder / "user.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", str(folder / "user.py")]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=600)


def test_all_is_sorted_and_complete() -> None:
    assert whisperstill.__all__ == sorted(whisperstill.__all__)
    assert len(set(whisperstill.__all__)) == len(whisperstill.__all__)
    assert dir(whisperstill) == whisperstill.__all__
    assert set(whisperstill._MODULE_OF) < set(whisperstill.__all__)


def test_type_checkers_see_the_names_that_are_loaded(root: Path) -> None:
    tree = ast.parse((root / "src/whisperstill/__init__.py").read_text(encoding="utf-8"))
    (type_checking,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in type_checking.body if isinstance(node, ast.ImportFrom)]
    assert {name.name: node.module for node in imports for name in node.names} == whisperstill._MODULE_OF


def test_every_public_name_can_be_imported() -> None:
    for name in whisperstill.__all__:
        assert getattr(whisperstill, name) is not None, name


def test_every_error_is_public() -> None:
    from whisperstill import errors

    names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert names <= set(whisperstill.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(whisperstill, "no_such_thing")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_with_public_settings_and_report(verb: str) -> None:
    function = getattr(api, verb)
    assert function is load_verb(verb).run
    names = {hint.__name__ for name, hint in get_type_hints(function).items() if name != "console"}
    assert load_verb(verb).settings_type.__name__ in names
    assert names <= set(whisperstill.__all__)


@pytest.mark.parametrize("verb", ["label", "evaluate", "export"])
def test_a_verb_can_be_called_after_its_namesake_package_was_imported(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`whisperstill.label` is the function, and the package of `whisperstill.label.store`."""
    import whisperstill.evaluate.metrics
    import whisperstill.export.whispercpp
    import whisperstill.label.store as label_store

    assert label_store.__name__ == "whisperstill.label.store"
    calls = []

    def run(settings: object, console: object = SILENT) -> str:
        calls.append((settings, type(console)))
        return "report"

    monkeypatch.setattr(f"whisperstill.stages.{verb}.run", run)
    assert getattr(whisperstill, verb)("settings") == "report"
    assert calls == [("settings", NullConsole)]


def test_a_users_file_passes_mypy_strict(root: Path, tmp_path: Path) -> None:
    result = mypy(USER_CODE, root, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mypy_finds_a_wrong_type(root: Path, tmp_path: Path) -> None:
    code = USER_CODE.replace("kept: int", "kept: str")
    assert "Incompatible types in assignment" in mypy(code, root, tmp_path).stdout
