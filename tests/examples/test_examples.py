"""The notebook runs from its first cell to its last, and the example programs start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ("distil_a_domain.py", "draft_model.py", "stream_microphone.py")


def few_clips(speech: Path, folder: Path) -> Path:
    """A manifest of four clips, linked into a new folder."""
    lines = (speech / "librispeech-mini-val" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        source = speech / "librispeech-mini-val" / entry["audio"]
        (folder / source.name).write_bytes(source.read_bytes())
        entry["audio"] = source.name
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return manifest


def test_the_quickstart_notebook_runs(
    root: Path, speech: Path, tiny_en: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    settings = {
        "WHISPERSTILL_AUDIO": str(few_clips(speech, tmp_path)),
        "WHISPERSTILL_TEACHER": str(tiny_en),
        "WHISPERSTILL_STEPS": "2",
        "PYTHONPATH": str(root / "src"),
        "OMP_NUM_THREADS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook = jupytext.read(root / "examples" / "quickstart.py")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    output = "".join(part.get("text", "") for cell in notebook.cells for part in cell.get("outputs", ()))
    assert "2 steps on" in output and "same text with the draft model: True" in output


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_program_starts(program: str, root: Path) -> None:
    command = [sys.executable, str(root / "examples" / program), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "usage" in result.stdout, result.stderr
