"""Progress bars on a terminal, lines in a log file, correct speed and time left."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console as RichConsole

from whisperstill.cli.console import PipeSafeConsole, TerminalConsole, looks_numeric
from whisperstill.console import Console, NullConsole, Progress, format_duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Lines of a console that writes to a file, every 15 s of `clock` and at the end."""

    def __init__(self) -> None:
        self.clock, self.file = Clock(), io.StringIO()
        self.console = TerminalConsole(messages=RichConsole(file=self.file, width=100), clock=self.clock)

    @contextmanager
    def progress(self, label: str, total: float, unit: str) -> Iterator[Progress]:
        with self.console.progress(label, total, unit) as bar:
            yield bar

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_both_consoles_implement_the_protocol() -> None:
    assert isinstance(NullConsole(), Console)
    assert isinstance(TerminalConsole(), Console)


def test_speed_of_audio_is_a_multiple_of_real_time() -> None:
    log = Log()
    with log.progress("labelling", 4.0, "hours") as bar:
        log.clock.now = 90.0
        bar.advance(1.0)
        log.clock.now = 360.0
        bar.advance(3.0)
    assert log.lines == [
        "labelling: 1.00/4.00 hours · 40.0x real time · 4 min left",
        "labelling: 4.00/4.00 hours · 40.0x real time · took 6 min",
    ]


def test_speed_of_steps_and_figures() -> None:
    log = Log()
    with log.progress("training", 10, "steps") as bar:
        log.clock.now = 4.0
        bar.advance(2, loss="1.5")
    assert log.lines == ["training: 2/10 steps · 0.50/s · 16 s left · loss 1.5"]


@pytest.mark.parametrize(
    ("title", "total", "unit", "skipped", "seconds", "line"),
    [
        ("training", 10, "steps", 6, 4.0, "training: 8/10 steps · 0.50/s · 4 s left"),
        ("transcribing", 0, "seconds", 0, 1.0, "transcribing: 2.00 seconds · 2.0x real time · took 1 s"),
    ],
)
def test_skipped_units_do_not_count_in_the_speed_and_the_total_may_be_unknown(
    title: str, total: int, unit: str, skipped: int, seconds: float, line: str
) -> None:
    log = Log()
    with log.progress(title, total, unit) as bar:
        bar.skip(skipped)
        log.clock.now = seconds
        bar.advance(2)
    assert log.lines == [line]


def test_a_log_gets_a_line_every_15_seconds() -> None:
    log = Log()
    with log.progress("labelling", 100, "files") as bar:
        for _ in range(100):
            log.clock.now += 1.0
            bar.advance(1)
    assert len(log.lines) == 7
    assert log.lines[-1].startswith("labelling: 100/100 files")


def test_colours_only_on_a_terminal() -> None:
    for terminal in (True, False):
        output, messages = io.StringIO(), io.StringIO()
        console = TerminalConsole(
            RichConsole(file=output, width=100), RichConsole(file=messages, width=100, force_terminal=terminal)
        )
        console.info("[not markup]")
        console.warn("careful")
        console.table("title", ["name", "value"], [["a", "1.5"], ["b", "22.0 (1 to 2)"]])
        with console.progress("work", 2, "steps") as bar:
            bar.advance(2, loss="0.1")
        assert "[not markup]" in messages.getvalue()
        assert "careful" in messages.getvalue()
        assert "loss 0.1" in messages.getvalue()
        assert "22.0 (1 to 2)" in output.getvalue()
        assert ("\x1b" in messages.getvalue()) is terminal


def test_numeric_cells() -> None:
    assert [cell for cell in ("1", "-2.5", "3 ms", "–") if not looks_numeric(cell)] == []
    assert not any(looks_numeric(cell) for cell in ("", "tiny.en", "-x"))


def test_durations() -> None:
    assert [format_duration(seconds) for seconds in (5, 300, 7260)] == ["5 s", "5 min", "2 h 1 min"]


def test_a_closed_pipe_does_not_stop_the_program() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed_pipe:
        terminal = TerminalConsole(messages=PipeSafeConsole(file=closed_pipe))
        terminal.info("one")
        terminal.warn("two")
