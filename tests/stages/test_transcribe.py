"""`transcribe`: many files, some of them broken."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperstill.cli.main import main
from whisperstill.console import NullConsole
from whisperstill.decode.output.writers import WRITERS, unique_output_names
from whisperstill.errors import AudioError, SettingsError
from whisperstill.stages import transcribe
from whisperstill.stages.transcribe import TranscribeSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings with one name, one in a subfolder; an empty file, junk, and a text file."""
    place = tmp_path_factory.mktemp("audio")
    (place / "monday").mkdir()
    generator = np.random.default_rng(0)
    for name in ("talk.wav", "monday/talk.flac"):
        soundfile.write(place / name, generator.normal(0, 0.1, 32_000), 16_000)
    (place / "empty.wav").write_bytes(b"")
    (place / "junk.mp3").write_bytes(b"not audio at all" * 50)
    (place / "notes.txt").write_text("not audio")
    return place


def settings_for(folder: Path, teacher: Path, output: Path) -> TranscribeSettings:
    return TranscribeSettings(
        audio=(str(folder),),
        model=str(teacher),
        output_dir=output,
        language="en",
        hallucination_filter=False,
        temperature_increment_on_fallback=None,  # a random network fails at every temperature
    )


def test_readable_files_are_transcribed_and_others_listed(folder: Path, small_teacher: Path, tmp_path: Path) -> None:
    report = transcribe.run(settings_for(folder, small_teacher, tmp_path), NullConsole())
    assert report.files == 2 and report.hours == pytest.approx(4 / 3600)
    assert sorted(Path(problem.source).name for problem in report.problems) == ["empty.wav", "junk.mp3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{ending}" for name in ("talk.wav", "talk.flac") for ending in WRITERS
    )
    content = json.loads((tmp_path / "talk.wav.json").read_text())
    assert content["language"] == "en"
    assert [part for part in content["segments"] if not 0 <= part["start"] < part["end"] <= 2.0] == []


def test_an_assistant_gives_the_same_transcripts(
    folder: Path, small_teacher: Path, small_student: Path, tmp_path: Path
) -> None:
    plain = replace(settings_for(folder, small_teacher, tmp_path / "plain"), dtype="float32", output_format="json")
    helped = replace(plain, output_dir=tmp_path / "helped", assistant=str(small_student))
    assert transcribe.run(plain, NullConsole()).acceptance_rate is None
    report = transcribe.run(helped, NullConsole())
    assert report.acceptance_rate is not None and 0 <= report.acceptance_rate <= 1
    assert report.tokens_per_verification is not None and report.tokens_per_verification >= 1
    assert report.encoder_share + report.draft_share + report.verify_share == pytest.approx(1)
    texts = [
        [[part["tokens"] for part in json.loads(path.read_text())["segments"]] for path in sorted(place.iterdir())]
        for place in (tmp_path / "plain", tmp_path / "helped")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2 and all(texts[0])


def test_skip_existing_skips_current_transcripts(folder: Path, small_teacher: Path, tmp_path: Path) -> None:
    line = ["transcribe", str(folder), "--model", str(small_teacher), "--output_dir", str(tmp_path)]
    line += ["--output_format", "txt", "--language", "en", "--skip-existing"]
    assert main(line) == 0
    (tmp_path / "talk.wav.txt").write_text("mine")
    (tmp_path / "talk.flac.txt").unlink()
    assert main(line) == 0
    assert (tmp_path / "talk.wav.txt").read_text() == "mine"
    assert (tmp_path / "talk.flac.txt").exists()
    assert main([*line, "--strict"]) == 1  # two files are still broken
    os.utime(tmp_path / "talk.wav.txt", (1, 1))  # the recording was changed since
    assert main(line) == 0
    assert (tmp_path / "talk.wav.txt").read_text() != "mine"


def test_no_readable_file_is_an_error(folder: Path, small_teacher: Path, tmp_path: Path) -> None:
    broken = TranscribeSettings(audio=(str(folder / "junk.mp3"),), model=str(small_teacher), output_dir=tmp_path)
    with pytest.raises(AudioError, match="no file could be transcribed"):
        transcribe.run(broken, NullConsole())


def test_all_problems_with_settings_are_listed_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = TranscribeSettings((), "base", output_dir=tmp_path / "file", batch_size=0, threads=-1, language="Klingon")
    with pytest.raises(SettingsError) as caught:
        transcribe.run(wrong, NullConsole())
    for word in ("audio", "batch_size", "threads", "output_dir", "language"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/talk.wav"], ["talk"]),
        (["a/talk.wav", "b/other.wav"], ["talk", "other"]),
        (["a/talk.wav", "a/talk.mp3"], ["talk.wav", "talk.mp3"]),
        (["a/talk.wav", "b/talk.wav"], ["a-talk", "b-talk"]),
        (["a/talk.wav", "a/Talk.wav", "b/talk.wav"], None),
    ],
    ids=["one file", "two names", "same stem", "same name", "same name in another case"],
)
def test_output_names_are_unique(paths: list[str], names: list[str] | None) -> None:
    files = [Path(path) for path in paths]
    names_by_file = unique_output_names(files)
    assert len({name.casefold() for name in names_by_file.values()}) == len(files)
    if names is not None:
        assert [names_by_file[path] for path in files] == names
