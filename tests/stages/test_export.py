"""`export`: other formats, and deltas that are combined with their teacher."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from whisperstill.console import NullConsole
from whisperstill.errors import CheckpointError, NotFoundError, SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.checkpoints.delta import TEACHER_VARIABLE
from whisperstill.stages.export import ExportSettings, run


@pytest.fixture
def delta(small_teacher: Path, small_student: Path, tmp_path: Path) -> Path:
    """The delta of a student with a trained last layer."""
    trained = shutil.copytree(small_student, tmp_path / "trained")
    (trained / "whisperstill.json").unlink()
    weights = load_file(trained / "model.safetensors")
    weights["model.decoder.layers.1.fc1.weight"] += 1.0
    save_file(weights, trained / "model.safetensors", metadata={"format": "pt"})
    run(ExportSettings(str(trained), tmp_path / "delta", "delta", teacher=str(small_teacher)), NullConsole())
    return tmp_path / "delta"


def test_a_delta_with_its_teacher_is_the_student(delta: Path, small_teacher: Path, tmp_path: Path) -> None:
    student, combined = load_checkpoint(tmp_path / "trained"), load_checkpoint(delta)
    assert combined.sha256 == student.sha256
    assert combined.generation_config == student.generation_config
    sizes = [(folder / name).stat().st_size for folder, name in (
        (delta, "delta.safetensors"), (tmp_path / "trained", "model.safetensors"))]  # fmt: skip
    assert sizes[0] < 0.2 * sizes[1]
    names = load_file(delta / "delta.safetensors").keys()
    assert not any("encoder.layers" in name or "embed_tokens" in name for name in names)
    half = load_checkpoint(delta, torch.bfloat16)
    assert {tensor.dtype for tensor in half.state.values()} == {torch.bfloat16}

    report = run(ExportSettings(str(delta), tmp_path / "again", "huggingface"), NullConsole())
    assert load_checkpoint(tmp_path / "again").sha256 == student.sha256 and report.bytes == sizes[1]


def test_the_teacher_can_be_moved(
    delta: Path, small_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((delta / "whisperstill.json").read_text())
    manifest["delta"]["teacher"] = "/nowhere/teacher"
    (delta / "whisperstill.json").write_text(json.dumps(manifest))
    with pytest.raises(NotFoundError, match=f"set {TEACHER_VARIABLE} to its path"):
        load_checkpoint(delta)
    monkeypatch.setenv(TEACHER_VARIABLE, str(small_teacher))
    assert load_checkpoint(delta).sha256 == load_checkpoint(tmp_path / "trained").sha256
    monkeypatch.setenv(TEACHER_VARIABLE, str(tmp_path / "trained"))
    with pytest.raises(CheckpointError, match="has another teacher"):
        load_checkpoint(delta)


def test_a_damaged_delta_is_an_error(delta: Path) -> None:
    weights = load_file(delta / "delta.safetensors")
    weights["model.decoder.layers.1.fc1.weight"][0, 0] += 1e-3
    save_file(weights, delta / "delta.safetensors")
    with pytest.raises(CheckpointError, match="do not combine to the weights that were written"):
        load_checkpoint(delta)
    (delta / "delta.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(delta)
    (delta / "whisperstill.json").unlink()
    with pytest.raises(CheckpointError, match=r"needs the whisperstill\.json"):
        load_checkpoint(delta)


def test_other_formats(small_student: Path, tmp_path: Path) -> None:
    half = run(ExportSettings(str(small_student), tmp_path / "half", "huggingface", "float16"), NullConsole())
    full = run(ExportSettings(str(small_student), tmp_path / "whole", "huggingface"), NullConsole())
    assert half.bytes == pytest.approx(full.bytes / 2, rel=0.01)
    assert load_checkpoint(tmp_path / "half", None).state["encoder.norm.weight"].dtype == torch.float16
    report = run(ExportSettings(str(small_student), tmp_path / "ggml.bin", "whisper.cpp"), NullConsole())
    assert report.dtype == "float16"
    assert (tmp_path / "ggml.bin").is_file()
    pytest.importorskip("ctranslate2")
    run(ExportSettings(str(small_student), tmp_path / "ct2", "ctranslate2", "int8_float32"), NullConsole())
    assert load_checkpoint(tmp_path / "ct2").dims == load_checkpoint(small_student).dims


def test_invalid_settings_are_errors(small_student: Path, small_teacher: Path, tmp_path: Path) -> None:
    student, out = str(small_student), tmp_path / "out"
    for settings, problem in (
        (ExportSettings(student, out, "delta"), "delta needs --teacher"),
        (ExportSettings(student, out, "ctranslate2", teacher="x"), "no other format takes it"),
        (ExportSettings(student, out, "huggingface", "int8"), "expected dtype float32, float16, bfloat16"),
        (ExportSettings(student, out, "delta", "float16", str(small_teacher)), "expected dtype float32 for a delta"),
        (ExportSettings(student, Path(__file__), "huggingface"), "output must be a directory"),
    ):
        with pytest.raises(SettingsError, match=problem):
            run(settings, NullConsole())
    assert not out.exists()
