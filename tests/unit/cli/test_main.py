"""Exit codes, messages and the speed of --help."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from whisperstill.cli import main as command_line
from whisperstill.cli.main import main
from whisperstill.cli.verbs import VERBS
from whisperstill.errors import StoreError
from whisperstill.records import Skipped
from whisperstill.stages import init

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
    assert all(verb in done.stdout for verb in VERBS)
    assert "whisperstill.cli" in done.stderr
    assert "torch" not in done.stderr


def test_help_answers_at_once() -> None:
    """Processor time, so that a busy machine changes nothing; without a shortage it is the time one waits."""
    command = [sys.executable, "-m", "whisperstill", "--help"]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=300)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: whisperstill {verb}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
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
)
def test_what_the_user_can_fix_is_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("whisperstill: error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def stage(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
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
)
def test_exit_codes(
    outcome: object, flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(monkeypatch, outcome)
    assert main([*INIT, *flags]) == code
    assert capsys.readouterr().err.count("\n") == (code > 1)


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(INIT)


def test_transcribe_speaks_as_openai_whisper_does() -> None:
    from whisperstill.cli.options import parse_arguments

    asked = parse_arguments(
        VERBS["transcribe"], ["a.wav", "b.mp3", "--model", "tiny.en", "--output_dir", "out", "--output_format", "srt"]
    )
    settings = asked.settings
    assert [str(path) for path in settings.audio] == ["a.wav", "b.mp3"]
    assert (settings.model, settings.output_dir, settings.output_format) == ("tiny.en", Path("out"), "srt")


@pytest.mark.parametrize(
    ("given", "words", "hallucination_filter"),
    [
        ([], False, True),
        (["--word_timestamps", "True"], True, True),
        (["--word-timestamps", "False", "--hallucination_filter", "False"], False, False),
        (["--hallucination_filter", "True", "--word_timestamps"], True, True),
        (["--no-hallucination-filter", "--word_timestamps", "--beam_size", "3"], True, False),
    ],
)
def test_switches_may_be_written_as_openai_whisper_does(
    given: list[str], words: bool, hallucination_filter: bool
) -> None:
    from whisperstill.cli.options import parse_arguments

    settings = parse_arguments(VERBS["transcribe"], ["a.wav", "--model", "base", *given]).settings
    assert (settings.word_timestamps, settings.hallucination_filter) == (words, hallucination_filter)


def test_incomplete_reports_are_recognised() -> None:
    assert not command_line.was_incomplete(Report())
    assert command_line.was_incomplete(Report((Skipped("a", "b"),)))
    assert not command_line.was_incomplete(None)
