"""`transcribe` with a recogniser that says what it is told: many files, broken files, standard input, lines."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_models import make_tokenizer

from whisperstill.cli.main import main
from whisperstill.decode.observed import Decoded
from whisperstill.decode.transcriber import Transcriber
from whisperstill.errors import AudioError, SettingsError
from whisperstill.stages import transcribe
from whisperstill.stages.console import Silent
from whisperstill.stages.inputs import STANDARD_INPUT, collect, forget_unfinished, output_names
from whisperstill.stages.transcribe import FORMATS, TranscribeSettings
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, tone


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Of 51865 tokens, multilingual."""
    return Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)


@pytest.fixture
def scripted(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Every model, whatever its name: says the first sample."""

    def script(first: float, language: str) -> Decoded:
        begin, end = tokenizer.vocabulary.timestamp(0.1), tokenizer.vocabulary.timestamp(0.9)
        return decoded([begin, *tokenizer.encode(f" heard {first:.3f} once"), end])

    recogniser = Scripted(tokenizer, script)
    monkeypatch.setattr("whisperstill.decode.transcriber.load", lambda *arguments: Transcriber(recogniser))
    return recogniser


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


def write(path: Path, first: float, seconds: float = 1.0) -> Path:
    soundfile.write(path, tone(seconds, first), 16_000, subtype="PCM_16")
    return path


def call(*arguments: str | Path) -> int:
    return main(["transcribe", *map(str, arguments), "--model", "any", "--language", "en"])


def test_five_hundred_files_in_one_call(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number in range(500):
        write(tmp_path / "in" / f"{number:03d}.wav", 0.001 * (number + 1), 0.2)
    looks = []
    monkeypatch.setattr(Path, "glob", lambda *arguments: looks.append(arguments) or iter(()))
    report = transcribe.run(
        TranscribeSettings((str(tmp_path / "in"),), "any", output_dir=tmp_path / "out", output_format="txt"), Silent()
    )
    assert report.files == len(report.written) == 500 and not report.problems
    assert scripted.batches == [8] * 62 + [4]  # no batch of one file's own
    assert len(looks) == 1  # the folder of outputs is looked at once, not once a file
    said = [float(Path(path).read_text().split()[1]) for path in report.written]
    assert said == pytest.approx([0.001 * (number + 1) for number in range(500)], abs=6e-4)


def test_three_broken_files_do_not_stop_the_others(scripted: Scripted, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        write(folder / f"good{number}.flac", 0.25)
    (folder / "empty.wav").touch()
    (folder / "junk.flac").write_bytes(b"fLaC" + bytes(range(256)) * 20)
    content = write(folder / "truncated.flac", 0.5, 20.0).read_bytes()
    (folder / "truncated.flac").write_bytes(content[: len(content) // 2])
    report = transcribe.run(TranscribeSettings((str(folder),), "any", output_dir=out), Silent())
    assert sorted(Path(problem.source).name for problem in report.problems) == [
        "empty.wav",
        "junk.flac",
        "truncated.flac",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"good{n}.{e}" for n in range(4) for e in FORMATS)
    assert call(folder, "--output_dir", out, "--skip-existing", "--strict") == 1


def test_a_transcript_that_cannot_be_written_does_not_stop_the_others(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.wav", 0.25)
    (tmp_path / "out" / "b.txt" / "a folder in the way").mkdir(parents=True)
    settings = TranscribeSettings((str(tmp_path),), "any", output_dir=tmp_path / "out", output_format="txt")
    report = transcribe.run(settings, Silent())
    assert [Path(path).name for path in report.written] == ["a.txt", "c.txt"]
    assert [Path(problem.source).name for problem in report.problems] == ["b.wav"]
    assert "cannot be written" in report.problems[0].reason


def test_standard_input_is_heard_as_a_file_is(
    scripted: Scripted, tmp_path: Path, pipe: Callable[[bytes], None]
) -> None:
    content = write(tmp_path / "a.wav", 0.25, 40.0).read_bytes()
    pipe(content)
    assert call("-", tmp_path / "a.wav", "--output_dir", tmp_path / "out") == 0
    for ending in FORMATS:
        piped, stored = (tmp_path / "out" / f"{name}.{ending}" for name in ("stdin", "a"))
        assert piped.read_bytes() == stored.read_bytes()
    assert len(json.loads((tmp_path / "out" / "stdin.json").read_text())["segments"]) == 2


@pytest.mark.parametrize(("pcm", "dtype", "scale"), [("s16le", "<i2", 32767), ("f32le", "<f4", 1.0)])
def test_raw_samples_on_standard_input(
    scripted: Scripted, tmp_path: Path, pipe: Callable[[bytes], None], pcm: str, dtype: str, scale: float
) -> None:
    wave = np.stack([tone(1.0, 0.5)] * 2, axis=1)
    pipe((wave * scale).astype(dtype).tobytes())
    line = ["-", "--pcm", pcm, "--pcm-rate", "16000", "--pcm-channels", "2", "--output_dir", tmp_path]
    assert call(*line, "--output_format", "txt") == 0
    assert (tmp_path / "stdin.txt").read_text() == "heard 0.500 once\n"


def test_standard_input_that_is_nothing_is_one_problem_of_many(
    scripted: Scripted, tmp_path: Path, pipe: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(b"")
    write(tmp_path / "a.wav", 0.25)
    line = ["-", tmp_path / "a.wav", "--output_dir", tmp_path, "--output_format", "txt"]
    assert call(*line) == 0
    pipe(b"")
    assert call(*line, "--strict") == 1
    pipe(b"junk" * 100)
    capsys.readouterr()
    assert call("-", "--output_dir", tmp_path) == 2
    assert "cannot decode standard input" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.wav"]


def test_standard_input_that_is_there_already_is_not_read(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "stdin.txt").write_text("mine")
    assert call("-", "--output_dir", tmp_path, "--output_format", "txt", "--skip-existing") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pcm": "s16le"}, "give - as audio"),
        ({"pcm_rate": 8000}, "add --pcm s16le"),
        ({"audio": ("-",), "pcm": "s16le", "pcm_channels": 0}, "pcm_channels must be at least 1"),
        ({"max_line_count": 2}, "max_line_count needs max_line_width"),
        ({"max_line_width": 0}, "max_line_width must be at least 1"),
        ({"max_words_per_line": 3}, "max_words_per_line needs word timestamps: add --word-timestamps"),
        ({"highlight_words": True, "output_format": "srt"}, "highlight_words needs word timestamps"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], message: str) -> None:
    settings = replace(TranscribeSettings(("a.wav",), "any"), **changes)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=re.escape(message)):
        transcribe.run(settings, Silent())


def test_width_wraps_without_words(scripted: Scripted, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.25)
    assert call(tmp_path / "a.wav", "--output_dir", tmp_path, "--max-line-width", "11") == 0
    assert "heard 0.250\nonce\n" in (tmp_path / "a.srt").read_text()
    assert (tmp_path / "a.txt").read_text() == "heard 0.250 once\n"
    assert call(tmp_path / "a.wav", "--output_dir", tmp_path, "--output_format", "txt", "--highlight_words") == 0


def test_the_decoder_is_asked_for_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Asked:
        def transcribe_many(self, paths: object, **options: object) -> list[object]:
            """Nothing."""
            asked.update(options)
            return [(path, AudioError("no")) for path in paths]  # type: ignore[attr-defined]

    monkeypatch.setattr("whisperstill.decode.transcriber.load", lambda *arguments: Asked())
    write(tmp_path / "a.wav", 0.25)
    line = [tmp_path / "a.wav", "--output_dir", tmp_path, "--highlight-words", "--word-timestamps"]
    assert call(*line) == 2
    assert asked["word_timestamps"] is True


def test_names_and_sources() -> None:
    found, problems = collect(("-", "-", "no such file"))
    assert found == [STANDARD_INPUT] and len(problems) == 1
    names = output_names([STANDARD_INPUT, Path("a/stdin.wav"), Path("b.wav")])
    assert names[Path("b.wav")] == "b" and len({name.casefold() for name in names.values()}) == 3
    assert output_names([STANDARD_INPUT]) == {STANDARD_INPUT: "stdin"}


def test_only_what_a_killed_writer_left_of_these_outputs_is_removed(tmp_path: Path) -> None:
    for name in (".a.b.txt.12.part", ".c.txt.12.part", "a.b.txt", ".a.b.txt", "a.b.txt.12.part"):
        (tmp_path / name).touch()
    forget_unfinished(tmp_path, {"a.b.txt", "d.txt"})
    forget_unfinished(tmp_path / "none", {"a.b.txt"})
    left = {".c.txt.12.part", "a.b.txt", ".a.b.txt", "a.b.txt.12.part"}
    assert {path.name for path in tmp_path.iterdir()} == left


SLOWLY = """
import sys, time
from small_models import make_tokenizer
from unit.decode.scripted import Scripted, decoded
from whisperstill.cli.main import main
from whisperstill.decode import transcriber
from whisperstill.text.tokenizer import Tokenizer

tokenizer = Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)

def script(first, language):
    time.sleep(0.02)
    return decoded(tokenizer.encode(f" heard {first:.3f} once"))

transcriber.load = lambda *arguments: transcriber.Transcriber(Scripted(tokenizer, script))
sys.exit(main(sys.argv[1:]))
"""


def start_slowly(root: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """The command line in a process of its own, with a recogniser that takes its time."""
    paths = os.pathsep.join((str(root / "src"), str(root / "tests")))
    return subprocess.Popen([sys.executable, "-c", SLOWLY, *arguments], env={**os.environ, "PYTHONPATH": paths})


def test_a_killed_folder_goes_on_where_it_stopped(root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(24):
        write(tmp_path / "in" / f"{number:02d}.wav", 0.02 * (number + 1))
    line = ["transcribe", str(tmp_path / "in"), "--model", "any", "--language", "en", "--batch_size", "2"]
    line += ["--skip-existing", "--output_dir"]
    assert start_slowly(root, [*line, str(tmp_path / "whole")]).wait() == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(whole) == 24 * len(FORMATS)
    out = tmp_path / "killed"
    for wanted in (3, 41):
        process = start_slowly(root, [*line, str(out)])
        while process.poll() is None and (not out.exists() or len(list(out.iterdir())) < wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.endswith(".part")}
        assert found.items() <= whole.items()  # what is there is whole
        assert len(found) < len(whole)  # and it was killed in the middle
    (out / f".05.srt.{process.pid}.part").write_text("1\n00:00")  # as if killed while writing
    (out / "05.srt").unlink(missing_ok=True)
    untouched = {path: path.stat().st_mtime_ns for path in out.glob("00.*")}
    assert len(untouched) == len(FORMATS)
    assert start_slowly(root, [*line, str(out)]).wait() == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert all(path.stat().st_mtime_ns == at for path, at in untouched.items())
