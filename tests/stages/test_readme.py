"""The README's commands, run with real weights on a few real clips."""

import io
import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile

from whisperstill.audio.audio_files import load_audio
from whisperstill.cli.main import main

CLIPS = 10


@pytest.fixture(scope="module")
def short_outputs() -> None:
    """No limit: real weights predict the end of text."""


@pytest.fixture(scope="module")
def no_training_plots() -> None:
    """Keep the training plots, which the README shows."""


def block(root: Path, heading: str, language: str = r"\w+") -> str:
    """First code block (of a language) under a heading of the README."""
    section = (root / "README.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    match = re.search(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    assert match
    return match[1]


@pytest.fixture(scope="module")
def folder(speech: Path, tiny_en_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the README assumes, with tiny.en in place of base."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "base").symlink_to(tiny_en_dir, target_is_directory=True)
    corpus = speech / "asterisk-en-prompts"
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["audio"] = str(corpus / row["audio"])
    for name, part in (("train", rows[:CLIPS]), ("test", rows[CLIPS : CLIPS + 4])):
        (folder / name).mkdir()
        (folder / name / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    soundfile.write(folder / "speech.flac", load_audio(rows[0]["audio"]), 16_000)
    return folder


def test_distil_in_six_commands(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = block(root, "Distil in six commands").strip().splitlines()
    assert [shlex.split(line)[0] for line in lines] == ["whisperstill"] * 6
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    results = json.loads((folder / "results" / "results.json").read_text())["results"]
    assert [result["model"] for result in results] == ["base", "student"]
    assert (folder / "student" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "speech.srt").read_text().startswith("1\n00:00:00,")


def test_transcribe_commands(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command before a pipe is replaced by its output: the clip as a file, or its samples."""
    monkeypatch.chdir(folder)
    samples = (load_audio(folder / "speech.flac") * 32767).astype("<i2").tobytes()
    lines = block(root, "Transcribe").strip().splitlines()
    assert len(lines) == 3
    for line in lines:
        piped = samples if "--pcm" in line else (folder / "speech.flac").read_bytes()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped)))
        assert main(shlex.split(line.rpartition("|")[2])[1:]) == 0, line
    text = (folder / "texts" / "speech.txt").read_text()
    assert len(text) > 3
    assert text.split() == (folder / "stdin.txt").read_text().split()
    assert (folder / "stdin.srt").is_file()


def test_python_streaming(
    root: Path, folder: Path, tiny_en_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(block(root, "Transcribe", "python"), "README.md", "exec"), {})
    assert re.match(r"\d+\.\d\d  ?\w+", capsys.readouterr().out)


def test_python_interface(
    root: Path, folder: Path, tiny_en_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(block(root, "Distil in six commands", "python"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.strip()) > 3
