"""Every benchmark starts, documents itself, and writes its result with provenance."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).parents[2]
NOT_BENCHMARKS = {"harness", "systems", "prepare_speech", "chunk_merge_errors", "token_overlap_merge"}
SCRIPTS = sorted(path for path in (ROOT / "bench").glob("*.py") if path.stem not in NOT_BENCHMARKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help(script: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "WHISPERSTILL_NO_REEXEC": "1"}
    command = [sys.executable, str(script), "--help"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert f"python bench/{script.name}" in process.stdout


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
    assert all(result[key] for key in ("commit", "command", "machine", "threads", "versions"))


def test_committed_results_hold_commit_command_and_machine() -> None:
    paths = sorted((ROOT / "bench/results").glob("*.json"))
    missing = [
        f"{path.name}: {key}"
        for path in paths
        for key in ("commit", "command", "machine")
        if not json.loads(path.read_text(encoding="utf-8")).get(key)
    ]
    assert paths and not missing


@pytest.mark.parametrize("name", ["decode", "hallucination", "longform"])
def test_committed_results_can_be_rendered(name: str) -> None:
    command = [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--render", str(ROOT / f"bench/results/{name}.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "WHISPERSTILL_NO_REEXEC": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.count("| ---") >= 1
