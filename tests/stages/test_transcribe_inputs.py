"""`transcribe` with a scripted model: many files, broken files, standard input, subtitle lines."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import soundfile
from small_models import make_tokenizer

from whisperstill.audio.input_files import STDIN_PATH, collect_audio
from whisperstill.cli.main import main
from whisperstill.console import NullConsole, NullProgress
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform import recordings as longform
from whisperstill.decode.longform.window import SpeechSpans
from whisperstill.decode.options import LONG_FORM_STRATEGIES, DecodingOptions, DecodingSettings
from whisperstill.decode.output.writers import WRITERS, remove_partial_outputs, unique_output_names
from whisperstill.decode.transcriber import DTYPES, Transcriber
from whisperstill.errors import SettingsError
from whisperstill.stages import transcribe
from whisperstill.stages.transcribe import TranscribeSettings
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A multilingual tokenizer of 51865 tokens."""
    return Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)


@pytest.fixture(autouse=True)
def speech_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech in every window."""
    detect_speech_everywhere(monkeypatch)


@pytest.fixture
def scripted(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Any model name loads a model that transcribes a window as its first sample."""

    def script(first: float, language: str) -> DecodingResult:
        begin, end = tokenizer.vocabulary.timestamp_token(0.1), tokenizer.vocabulary.timestamp_token(0.9)
        return decoded([begin, *tokenizer.encode(f" first {first:.3f} once"), end])

    recogniser = Scripted(tokenizer, script)
    monkeypatch.setattr("whisperstill.decode.transcriber.load", lambda *arguments: Transcriber(recogniser))
    return recogniser


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Function that writes bytes to standard input."""

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
        TranscribeSettings((str(tmp_path / "in"),), "any", output_dir=tmp_path / "out", output_format="txt"),
        NullConsole(),
    )
    assert report.files == len(report.written) == 500 and not report.problems
    assert scripted.batches == [8] * 62 + [4]  # batched across files
    assert len(looks) == 1  # the output folder is listed once
    amplitudes = [float(Path(path).read_text().split()[1]) for path in report.written]
    assert amplitudes == pytest.approx([0.001 * (number + 1) for number in range(500)], abs=6e-4)


def test_three_broken_files_do_not_stop_the_others(scripted: Scripted, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        write(folder / f"good{number}.flac", 0.25)
    (folder / "empty.wav").touch()
    (folder / "junk.flac").write_bytes(b"fLaC" + bytes(range(256)) * 20)
    content = write(folder / "truncated.flac", 0.5, 20.0).read_bytes()
    (folder / "truncated.flac").write_bytes(content[: len(content) // 2])
    report = transcribe.run(TranscribeSettings((str(folder),), "any", output_dir=out), NullConsole())
    assert sorted(Path(problem.source).name for problem in report.problems) == [
        "empty.wav",
        "junk.flac",
        "truncated.flac",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"good{n}.{e}" for n in range(4) for e in WRITERS)
    assert call(folder, "--output_dir", out, "--skip-existing", "--strict") == 1


def test_a_transcript_that_cannot_be_written_does_not_stop_the_others(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.wav", 0.25)
    (tmp_path / "out" / "b.txt" / "a folder in the way").mkdir(parents=True)
    settings = TranscribeSettings((str(tmp_path),), "any", output_dir=tmp_path / "out", output_format="txt")
    report = transcribe.run(settings, NullConsole())
    assert [Path(path).name for path in report.written] == ["a.txt", "c.txt"]
    assert [Path(problem.source).name for problem in report.problems] == ["b.wav"]
    assert "cannot write its transcript" in report.problems[0].reason


def test_standard_input_is_transcribed_as_a_file(
    scripted: Scripted, tmp_path: Path, pipe: Callable[[bytes], None]
) -> None:
    content = write(tmp_path / "a.wav", 0.25, 40.0).read_bytes()
    pipe(content)
    assert call("-", tmp_path / "a.wav", "--output_dir", tmp_path / "out") == 0
    for ending in WRITERS:
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
    assert (tmp_path / "stdin.txt").read_text() == "first 0.500 once\n"


def test_empty_standard_input_is_a_problem(
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


def test_standard_input_is_never_skipped(scripted: Scripted, tmp_path: Path, pipe: Callable[[bytes], None]) -> None:
    """A pipe may hold other audio every time."""
    (tmp_path / "stdin.txt").write_text("of another pipe")
    pipe((tone(1.0, 0.5) * 32767).astype("<i2").tobytes())
    assert call("-", "--pcm", "s16le", "--output_dir", tmp_path, "--output_format", "txt", "--skip-existing") == 0
    assert (tmp_path / "stdin.txt").read_text() == "first 0.500 once\n"


@pytest.mark.needs("POSIX")
def test_undecodable_file_names_are_listed(scripted: Scripted, tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", 0.5)
    write(tmp_path / "b.wav", 0.5).rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav"))
    (tmp_path / "folder.wav").mkdir()
    paths, problems = collect_audio((str(tmp_path), "x" * 300))
    assert paths == [good]
    reasons = [problem.reason for problem in problems]
    assert len(reasons) == 2 and "too long" in reasons[0] and "UTF-8" in reasons[1]
    assert [problem for problem in problems if not (problem.reason.encode() and problem.source.encode())] == []
    assert call(tmp_path, "--output_dir", tmp_path / "out", "--output_format", "txt") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.txt"]


def test_an_unwritable_folder_is_an_error_before_decoding(scripted: Scripted, tmp_path: Path) -> None:
    wav = write(tmp_path / "a.wav", 0.5)
    with pytest.raises(SettingsError, match="cannot write into"):
        transcribe.run(TranscribeSettings(audio=(str(wav),), model="any", output_dir=wav / "sub"), NullConsole())
    assert not scripted.decoded_requests


def test_a_truncated_file_is_transcribed_and_listed(scripted: Scripted, tmp_path: Path) -> None:
    sound = tone(60.0, 0.5)
    soundfile.write(tmp_path / "a.flac", sound, 16_000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    line = [tmp_path / "a.flac", "--language", "en", "--output_dir", tmp_path, "--output_format", "json"]
    assert call(*line) == 0 and call(*line, "--strict") == 1
    output = json.loads((tmp_path / "a.json").read_text())
    assert output["read_error"] and output["segments"] and output["duration"] < 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pcm": "s16le"}, "give - as audio"),
        ({"pcm_rate": 8000}, "add --pcm s16le"),
        ({"audio": ("-",), "pcm": "s16le", "pcm_channels": 0}, "pcm_channels must be at least 1"),
        ({"suppress_tokens": "1;2"}, "comma-separated ids"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"temperature_increment_on_fallback": 0.0}, "at least 0.01"),
        ({"length_penalty": 2.0}, "length_penalty must be 0 to 1"),
        ({"chunk_length": 60.0}, "chunk_length must be 5 to 30"),
        ({"patience": 0.0, "beam_size": 0}, "beam_size must be at least 1, got 0; patience"),
        ({"best_of": 0, "suppress_tokens": "x", "pcm": "s16le"}, "got 'x'; best_of must be at least 1"),
        ({"max_line_count": 2}, "max_line_count needs max_line_width"),
        ({"max_line_width": 0}, "max_line_width must be at least 1"),
        ({"max_words_per_line": 3}, "max_words_per_line needs word timestamps: add --word_timestamps"),
        ({"highlight_words": True, "output_format": "srt"}, "highlight_words needs word timestamps"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_invalid_settings(changes: dict[str, object], message: str) -> None:
    settings = replace(TranscribeSettings(("a.wav",), "any"), **changes)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=re.escape(message)):
        transcribe.run(settings, NullConsole())


def test_width_wraps_without_words(scripted: Scripted, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.25)
    assert call(tmp_path / "a.wav", "--output_dir", tmp_path, "--max-line-width", "11") == 0
    assert "first 0.250\nonce\n" in (tmp_path / "a.srt").read_text()
    assert (tmp_path / "a.txt").read_text() == "first 0.250 once\n"
    assert call(tmp_path / "a.wav", "--output_dir", tmp_path, "--output_format", "txt", "--highlight_words") == 0


def test_every_setting_reaches_the_decoder(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[DecodingOptions] = []

    def record_options(model: Scripted, options: DecodingOptions) -> object:
        received.append(options)
        raise SettingsError("recorded")

    monkeypatch.setattr(longform, "TranscriptionSession", record_options)
    write(tmp_path / "a.wav", 0.25)
    line = [tmp_path / "a.wav", "--output_dir", tmp_path]
    assert call(*line) == 2
    given = {
        "task": "translate",
        "long_form": "sequential",
        "chunk_length": 20.0,
        "without_timestamps": True,
        "initial_prompt": "before",
        "prefix": "so",
        "hotwords": "Kiel",
        "prompt_reset_on_temperature": 0.3,
        "best_of": 3,
        "beam_size": 4,
        "patience": 2.0,
        "length_penalty": 0.5,
        "max_initial_timestamp": 2.0,
        "compression_ratio_threshold": 3.0,
        "logprob_threshold": -2.0,
        "no_speech_threshold": None,
        "seed": 7,
        "batch_size": 2,
    }
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    flags += [
        "--highlight-words",
        "--deterministic",
        "--word-timestamps",
        "--multilingual",
        "--no-hallucination-filter",
        "--suppress_tokens=-1,50",
    ]
    flags += ["--condition_on_previous_text", "False", "--temperature", "0.5"]
    assert call(*line, *flags) == 2
    assert received[0] == DecodingOptions()
    assert received[1] == DecodingOptions(
        **given,  # type: ignore[arg-type]
        deterministic=True,
        word_timestamps=True,
        multilingual=True,
        hallucination_filter=False,
        suppress_tokens=(-1, 50),
        condition_on_previous_text=False,
        temperature=(0.5, 0.7, 0.9),
    )
    differ = [name for name in asdict(received[0]) if getattr(received[0], name) == getattr(received[1], name)]
    assert differ == []  # every option differs


def test_every_option_of_the_decoder_is_a_flag_with_its_default() -> None:
    names = {field.name for field in fields(DecodingOptions)}
    assert names | {"temperature_increment_on_fallback"} == {field.name for field in fields(DecodingSettings)}
    hints = get_type_hints(DecodingSettings)
    assert get_args(hints["long_form"]) == LONG_FORM_STRATEGIES
    assert get_args(get_type_hints(TranscribeSettings)["dtype"]) == DTYPES
    assert DecodingSettings().options() == DecodingOptions()


@pytest.mark.parametrize(
    ("first", "step", "ladder"),
    [
        (0.0, 0.2, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.0, None, (0.0,)),
        (0.4, 0.3, (0.4, 0.7, 1.0)),
        (0.0, 0.3, (0.0, 0.3, 0.6, 0.9)),
        (1.0, 0.2, (1.0,)),
        (1.5, 0.2, (1.5,)),
        (0.5, 2.0, (0.5,)),
    ],
    ids=str,
)
def test_fallback_temperatures(first: float, step: float | None, ladder: tuple[float, ...]) -> None:
    settings = DecodingSettings(temperature=first, temperature_increment_on_fallback=step)
    assert settings.options().temperature == ladder


def test_filtered_segments_are_counted_and_listed(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SpeechSpans, "detect", classmethod(lambda cls, wave: cls(() if wave[0] > 0.3 else ((0.0, 0.5),)))
    )
    write(tmp_path / "voice.wav", 0.25)
    write(tmp_path / "noise.wav", 0.5)
    settings = TranscribeSettings((str(tmp_path),), "any", output_dir=tmp_path / "out", verbose=True)
    messages: list[str] = []
    console = NullConsole()
    monkeypatch.setattr(console, "info", messages.append)
    report = transcribe.run(settings, console)
    assert report.filtered_by_reason == {"no speech": 1}
    assert (report.deterministic, report.long_form, report.acceptance_rate) == (False, "silence", None)
    assert "[0.00 --> 1.00] removed by the hallucination filter (no speech)" in messages
    assert "removed by the hallucination filter: 1 no speech (--verbose lists them)" in messages
    assert json.loads((tmp_path / "out" / "noise.json").read_text())["filtered_segments"][0]["reason"] == "no speech"
    assert "filtered_segments" not in json.loads((tmp_path / "out" / "voice.json").read_text())
    assert transcribe.run(replace(settings, hallucination_filter=False), NullConsole()).filtered_by_reason == {}


def test_progress_adds_up_to_the_audio(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, seconds in enumerate((70.0, 0.5, 33.0)):
        write(tmp_path / f"{number}.wav", 0.25, seconds)
    shown: list[float] = []
    totals: list[float] = []

    class Bar(NullProgress):
        def advance(self, amount: float, **fields: str) -> None:
            """Record the amount."""
            shown.append(amount)

    class Drawn(NullConsole):
        def progress(self, label: str, total: float, unit: str) -> AbstractContextManager[Bar]:
            """Record the total."""
            totals.append(total)
            return nullcontext(Bar())

    settings = TranscribeSettings((str(tmp_path),), "any", output_dir=tmp_path, output_format="txt", batch_size=2)
    transcribe.run(settings, Drawn())
    assert sum(shown) * 3600 == pytest.approx(103.5) == totals[0] * 3600
    assert min(shown) >= 0 and sum(amount > 0 for amount in shown) >= 6  # window by window


def test_names_and_sources() -> None:
    paths, problems = collect_audio(("-", "-", "no such file"))
    assert paths == [STDIN_PATH] and len(problems) == 1
    names = unique_output_names([STDIN_PATH, Path("a/stdin.wav"), Path("b.wav")])
    assert names[Path("b.wav")] == "b" and len({name.casefold() for name in names.values()}) == 3
    assert unique_output_names([STDIN_PATH]) == {STDIN_PATH: "stdin"}


def test_only_partial_files_of_these_outputs_are_removed(tmp_path: Path) -> None:
    for name in (".a.b.txt.12.part", ".c.txt.12.part", "a.b.txt", ".a.b.txt", "a.b.txt.12.part"):
        (tmp_path / name).touch()
    remove_partial_outputs(tmp_path, {"a.b.txt", "d.txt"})
    remove_partial_outputs(tmp_path / "none", {"a.b.txt"})
    remaining = {".c.txt.12.part", "a.b.txt", ".a.b.txt", "a.b.txt.12.part"}
    assert {path.name for path in tmp_path.iterdir()} == remaining


SLOWLY = """
import sys, time
from small_models import make_tokenizer
from unit.decode.scripted import Scripted, decoded
from whisperstill.cli.main import main
from whisperstill.decode import transcriber
from whisperstill.decode.longform.window import SpeechSpans
from whisperstill.text.tokenizer import Tokenizer

SpeechSpans.detect = classmethod(lambda cls, waveform: cls(((0.0, 30.0),)))

tokenizer = Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)

def script(first, language):
    time.sleep(0.02)
    return decoded(tokenizer.encode(f" first {first:.3f} once"))

transcriber.load = lambda *arguments: transcriber.Transcriber(Scripted(tokenizer, script))
sys.exit(main(sys.argv[1:]))
"""


def start_slowly(root: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the command line as a process, with a slow model."""
    paths = os.pathsep.join((str(root / "src"), str(root / "tests")))
    return subprocess.Popen([sys.executable, "-c", SLOWLY, *arguments], env={**os.environ, "PYTHONPATH": paths})


def test_a_killed_run_resumes_with_skip_existing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(24):
        write(tmp_path / "in" / f"{number:02d}.wav", 0.02 * (number + 1))
    line = ["transcribe", str(tmp_path / "in"), "--model", "any", "--language", "en", "--batch_size", "2"]
    line += ["--skip-existing", "--output_dir"]
    assert start_slowly(root, [*line, str(tmp_path / "whole")]).wait() == 0
    complete = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(complete) == 24 * len(WRITERS)
    out = tmp_path / "killed"
    for wanted in (3, 41):
        process = start_slowly(root, [*line, str(out)])
        while process.poll() is None and (not out.exists() or len(list(out.iterdir())) < wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.endswith(".part")}
        assert finished.items() <= complete.items()  # all files are complete
        assert len(finished) < len(complete)  # and it was killed in the middle
    (out / f".05.srt.{process.pid}.part").write_text("1\n00:00")  # as if killed while writing
    (out / "05.srt").unlink(missing_ok=True)
    untouched = {path: path.stat().st_mtime_ns for path in out.glob("00.*")}
    assert len(untouched) == len(WRITERS)
    assert start_slowly(root, [*line, str(out)]).wait() == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == complete
    assert [(path, mtime) for path, mtime in untouched.items() if path.stat().st_mtime_ns != mtime] == []
