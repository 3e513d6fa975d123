"""Bars on a terminal, lines in a log; figures that are right."""

import io
import os

from rich.console import Console as RichConsole

from whisperstill.cli.console import (
    LogProgress,
    PipeSafeConsole,
    ProgressBar,
    ProgressStats,
    TerminalConsole,
    format_duration,
    looks_numeric,
)
from whisperstill.console import Console, NullConsole


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_both_consoles_are_consoles() -> None:
    assert isinstance(NullConsole(), Console)
    assert isinstance(TerminalConsole(), Console)


def test_figures_show_done_speed_and_time_left() -> None:
    clock = Clock()
    meter = ProgressStats("labelling", 4.0, "hours", clock)
    assert meter.format_stats() == "0.00/4.00 hours"
    clock.now, meter.done = 90.0, 1.0
    assert meter.format_stats() == "1.00/4.00 hours · 40.0x real time · 4 min left"
    clock.now, meter.done = 360.0, 4.0
    assert meter.format_stats() == "4.00/4.00 hours · 40.0x real time · took 6 min"


def test_figures_of_steps() -> None:
    clock = Clock()
    meter = ProgressStats("training", 10, "steps", clock)
    clock.now, meter.done, meter.fields = 4.0, 2.0, {"loss": "1.5"}
    assert meter.format_stats() == "2/10 steps · 0.50/s · 16 s left · loss 1.5"


def test_what_was_done_before_says_nothing_of_the_speed() -> None:
    clock = Clock()
    meter = ProgressStats("training", 10, "steps", clock)
    bar = ProgressBar(meter, lambda: None)
    bar.skip(6)
    assert meter.format_stats() == "6/10 steps"
    clock.now = 4.0
    bar.advance(2)
    assert meter.format_stats() == "8/10 steps · 0.50/s · 4 s left"


def test_a_log_gets_a_line_now_and_then() -> None:
    clock, written = Clock(), []
    lines = LogProgress(meter := ProgressStats("labelling", 100, "files", clock), written.append)
    for _ in range(100):
        clock.now += 1.0
        meter.done += 1
        lines.write_if_due()
    lines.write_if_due(final=True)
    assert len(written) == 7
    assert written[-1].startswith("labelling: 100/100 files")


def test_a_terminal_shows_and_a_file_stays_plain() -> None:
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


def test_cells_that_are_figures() -> None:
    assert all(looks_numeric(cell) for cell in ("1", "-2.5", "3 ms", "–"))
    assert not any(looks_numeric(cell) for cell in ("", "tiny.en", "-x"))


def test_times_are_spoken() -> None:
    assert [format_duration(each) for each in (5, 300, 7260)] == ["5 s", "5 min", "2 h 1 min"]


def test_work_goes_on_where_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        terminal = TerminalConsole(messages=PipeSafeConsole(file=nobody))
        terminal.info("one")
        terminal.warn("two")
