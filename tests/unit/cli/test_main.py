"""Exit codes, error messages, flag spellings and the speed of --help."""

import dataclasses
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from whisperstill.cli.main import main
from whisperstill.cli.verbs import VERBS
from whisperstill.errors import StoreError
from whisperstill.records import Skipped
from whisperstill.stages import init, load_verb
from whisperstill.stages.filter import FilterSettings
from whisperstill.stages.transcribe import TranscribeSettings

SOURCE = Path(__file__).resolve().parents[3] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


@dataclass(frozen=True)
class Report:
    problems: tuple[Skipped, ...] = ()


INIT = ["init", "--teacher", "tiny.en", "--output", "x"]


def test_help_loads_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "whisperstill", "--help"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert [verb for verb in VERBS if verb not in done.stdout] == []
    assert "whisperstill.cli" in done.stderr
    assert "torch" not in done.stderr


def test_help_is_fast() -> None:
    """CPU time, so that a busy machine does not matter."""
    command = [sys.executable, "-m", "whisperstill", "--help"]
    cpu_seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=300)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(cpu_seconds) < 0.3


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: whisperstill {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("whisperstill ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected one of label, filter"),
        (
            ["bake"],
            "expected one of label, filter, init, train, compress, evaluate, report, compare, transcribe, export, run, "
            "sweep, ablate, plan, "
            "doctor, got 'bake'",
        ),
        (["init", "--output", "x"], "missing --teacher; see whisperstill init --help"),
        ([*INIT, "--decoder-layers", "two"], "'two'"),
        ([*INIT, "--decoder-layer", "2"], "--decoder-layer"),
        (["run", "none.toml"], "expected a recipe or a suite, got none.toml"),
        (["label", "--teacher", "a", "--manifest", "b", "--output", "c", "--encoder-states", "float7"], "float7"),
    ],
    ids=[
        "no verb",
        "unknown verb",
        "missing option",
        "wrong type",
        "unknown option",
        "missing recipe",
        "unknown choice",
    ],
)
def test_an_error_the_user_can_fix_is_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("whisperstill: error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def replace_init(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
    def run(settings: object, console: object) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(init, "run", run)


@pytest.mark.parametrize(
    ("outcome", "flags", "code"),
    [
        (Report(), [], 0),
        (Report(), ["--strict"], 0),
        (Report((Skipped("a.wav", "empty"),)), [], 0),
        (Report((Skipped("a.wav", "empty"),)), ["--strict"], 1),
        (StoreError("two\nlines"), [], 2),
        (KeyboardInterrupt(), [], 130),
    ],
    ids=["success", "strict success", "skipped file", "strict skipped file", "error", "interrupted"],
)
def test_exit_codes(
    outcome: object, flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_init(monkeypatch, outcome)
    assert main([*INIT, *flags]) == code
    assert capsys.readouterr().err.count("\n") == (code > 1)


def test_an_internal_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_init(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(INIT)


def test_transcribe_accepts_the_flags_of_openai_whisper() -> None:
    from whisperstill.cli.options import parse_arguments

    settings, _ = parse_arguments(
        VERBS["transcribe"], ["a.wav", "b.mp3", "--model", "tiny.en", "--output_dir", "out", "--output_format", "srt"]
    )
    assert isinstance(settings, TranscribeSettings)
    assert [str(path) for path in settings.audio] == ["a.wav", "b.mp3"]
    assert (settings.model, settings.output_dir, settings.output_format) == ("tiny.en", Path("out"), "srt")


@pytest.mark.parametrize(
    ("arguments", "word_timestamps", "hallucination_filter"),
    [
        ([], False, True),
        (["--word_timestamps", "True"], True, True),
        (["--word-timestamps", "False", "--hallucination_filter", "False"], False, False),
        (["--hallucination_filter", "True", "--word_timestamps"], True, True),
        (["--no-hallucination-filter", "--word_timestamps", "--beam_size", "3"], True, False),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, list) else str(value),
)
def test_bool_flags_accept_a_value_as_in_openai_whisper(
    arguments: list[str], word_timestamps: bool, hallucination_filter: bool
) -> None:
    from whisperstill.cli.options import parse_arguments

    settings = parse_arguments(VERBS["transcribe"], ["a.wav", "--model", "base", *arguments])[0]
    assert isinstance(settings, TranscribeSettings)
    assert (settings.word_timestamps, settings.hallucination_filter) == (word_timestamps, hallucination_filter)


FILTER = ["--labels", "labels", "--output", "filtered"]


@pytest.mark.parametrize("flag", ["--max-wer", "--max_wer", "--wer-threshold", "--wer_threshold"])
def test_flags_have_hyphens_or_underscores_and_aliases(flag: str) -> None:
    from whisperstill.cli.options import parse_arguments

    settings = parse_arguments(VERBS["filter"], [*FILTER, flag, "12.5", "--no-drop_all_caps"])[0]
    assert settings == FilterSettings(labels=Path("labels"), output=Path("filtered"), max_wer=12.5, drop_all_caps=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_may_be_written_with_underscores(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown value or a missing flag is an error of the value, not of the flag's spelling."""
    settings_type = load_verb(verb).settings_type
    names = [field.name for field in dataclasses.fields(settings_type) if field.type is int and "_" in field.name]
    for name in names:
        for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
            assert main([verb, flag, "x"]) == 2
            assert "nrecognized" not in capsys.readouterr().err, flag
