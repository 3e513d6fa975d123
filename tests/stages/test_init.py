"""`init`: writes the student once."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.stages.init import InitSettings, run


class Recorder(NullConsole):
    """Records the rows of tables."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.rows += [tuple(row) for row in rows]


def test_init_writes_the_student_once(tiny_en_dir: Path, tmp_path: Path) -> None:
    settings = InitSettings(teacher=str(tiny_en_dir), output=tmp_path / "student")
    console = Recorder()
    report = run(settings, console)
    assert (report.created, report.layers) == (True, (0, 3))
    assert report.teacher_parameters == 37_760_256
    assert report.teacher_parameters - report.student_parameters == report.teacher_decoder - report.student_decoder
    assert ("encoder", "8.2", "8.2") in console.rows
    student, teacher = load_checkpoint(settings.output), load_checkpoint(tiny_en_dir)
    assert student.sha256 == report.sha256
    assert student.encoder_sha256 == teacher.encoder_sha256
    assert {layer for layer, _ in student.generation_config.alignment_heads} == {1}  # the teacher's last layer

    before = {path.name: path.stat().st_mtime_ns for path in settings.output.iterdir()}
    again = run(settings, NullConsole())
    assert not again.created
    assert again.sha256 == report.sha256
    assert before == {path.name: path.stat().st_mtime_ns for path in settings.output.iterdir()}

    other = InitSettings(teacher=str(tiny_en_dir), output=settings.output, layers=(0, 2))
    with pytest.raises(SettingsError, match="--overwrite"):
        run(other, NullConsole())
    assert run(InitSettings(**{**vars(other), "overwrite": True}), NullConsole()).layers == (0, 2)
    assert load_checkpoint(settings.output).metadata["layers"] == [0, 2]


def test_init_completes_a_killed_run(tiny_en_dir: Path, tmp_path: Path) -> None:
    settings = InitSettings(teacher=str(tiny_en_dir), output=tmp_path, decoder_layers=1)
    (tmp_path / "whisperstill.json").write_text('{"format": 2, "unfinished": true}')
    (tmp_path / ".model.safetensors.77.tmp").write_bytes(b"half")
    assert run(settings, NullConsole()).created
    assert load_checkpoint(tmp_path).dims.decoder_layers == 1


def test_invalid_settings_are_errors(tiny_en_dir: Path, tmp_path: Path) -> None:
    teacher = str(tiny_en_dir)
    with pytest.raises(SettingsError, match=r"decoder_layers must be 1 to 4 \(the teacher's\), got 40"):
        run(InitSettings(teacher, tmp_path, decoder_layers=40), NullConsole())
    with pytest.raises(SettingsError, match="English model has no language setting, got de"):
        run(InitSettings(teacher, tmp_path, language="de"), NullConsole())
    (tmp_path / "mine.txt").write_text("a file of the user")
    with pytest.raises(SettingsError, match="holds something other"):
        run(InitSettings(teacher, tmp_path), NullConsole())
    with pytest.raises(SettingsError, match="is a file"):
        run(InitSettings(teacher, tmp_path / "mine.txt"), NullConsole())
