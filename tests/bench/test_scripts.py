"""Every benchmark starts, documents itself, and writes its result with provenance."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).parents[2]
NOT_BENCHMARKS = {"harness", "systems", "prepare_speech", "chunk_merge_errors", "token_overlap_merge"}
SCRIPTS = sorted(path for path in (ROOT / "bench").glob("*.py") if path.stem not in NOT_BENCHMARKS)


RUN_ALL = """
import contextlib, io, json, runpy, sys, traceback
results = []
for script, *arguments in json.load(sys.stdin):
    sys.argv, output, code = [script, *arguments], io.StringIO(), 0
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            code = traceback.format_exc()
    results.append((code or 0, output.getvalue()))
print(json.dumps(results))
"""
"""Runs scripts one after the other in one process, which imports torch once."""


def run_scripts(commands: Sequence[Sequence[str]]) -> list[tuple[int | str, str]]:
    """Exit status (or traceback) and output of each script with its arguments, as if started alone."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'bench'}", "COLUMNS": "120"}
    process = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(commands),
        env={**environment, "WHISPERSTILL_NO_REEXEC": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return [(code, output) for code, output in json.loads(process.stdout)]


def test_every_script_has_a_help_text() -> None:
    results = run_scripts([(str(script), "--help") for script in SCRIPTS])
    assert [(script.name, code) for script, (code, _) in zip(SCRIPTS, results, strict=True) if code] == []
    for script, (_, output) in zip(SCRIPTS, results, strict=True):
        assert f"python bench/{script.name}" in output


def test_the_check_for_scripts_that_fail_can_fail(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module")
    (tmp_path / "refuses.py").write_text("raise SystemExit(2)")
    (broken, _), (refuses, _) = run_scripts([(str(tmp_path / "broken.py"),), (str(tmp_path / "refuses.py"),)])
    assert "No module named 'no_such_module'" in str(broken) and refuses == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_docstring_states_question_method_and_limit(script: Path) -> None:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    assert docstring.partition("\n")[0].endswith("?")
    assert "\nMethod: " in docstring and "\nLimit: " in docstring


def test_readme_names_every_script() -> None:
    readme = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in readme] == []


def test_rounds_are_interleaved_after_a_warm_up() -> None:
    assert list(harness.interleaved(["a", "b"], 2)) == [(0, "b"), (0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a")]


def test_ratios_are_paired_by_round() -> None:
    assert harness.median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


def test_result_holds_commit_command_and_machine(tmp_path: Path) -> None:
    harness.write_result(tmp_path / "result.json", "what?", {"rows": [1]})
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["question"] == "what?" and result["rows"] == [1]
    assert [key for key in ("commit", "command", "machine", "threads", "versions") if not result[key]] == []


def test_committed_results_hold_commit_command_and_machine() -> None:
    paths = sorted((ROOT / "bench/results").glob("*.json"))
    missing = [
        f"{path.name}: {key}"
        for path in paths
        for key in ("commit", "command", "machine")
        if not json.loads(path.read_text(encoding="utf-8")).get(key)
    ]
    assert paths and not missing


def test_committed_results_can_be_rendered() -> None:
    bench = ROOT / "bench"
    names = ("decode", "hallucination", "longform")
    results = run_scripts(
        [(str(bench / f"{name}.py"), "--render", str(bench / f"results/{name}.json")) for name in names]
    )
    for name, (code, output) in zip(names, results, strict=True):
        assert code == 0 and output.count("| ---") >= 1, name
